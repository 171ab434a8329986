"""Properties of random integer graphs."""
