"""What passes preserve."""
