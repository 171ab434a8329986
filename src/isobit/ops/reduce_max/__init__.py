"""reduce_max: largest or smallest element over any axes."""
