"""avg_pool2d: mean over windows."""
