"""lstm: a sequence through a long short-term memory."""
