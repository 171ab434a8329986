"""global_avg_pool: mean over the whole image."""
