"""requantize: the same reals in another encoding."""
