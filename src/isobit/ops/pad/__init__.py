"""pad: a border of zeros."""
