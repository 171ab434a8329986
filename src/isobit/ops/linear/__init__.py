"""linear: fully connected layer."""
