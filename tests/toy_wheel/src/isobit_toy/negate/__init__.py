"""The operator `negate`."""
