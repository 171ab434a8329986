"""reduce_sum: sums and means over any axes."""
