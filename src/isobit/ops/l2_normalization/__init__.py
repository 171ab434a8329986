"""l2_normalization: vectors of Euclidean length 1."""
