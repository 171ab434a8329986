"""standardize: subtract an integer mean, shift."""
