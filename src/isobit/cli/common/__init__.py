"""What verbs share: output, subjects, progress, option types."""
