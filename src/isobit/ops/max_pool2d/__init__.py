"""max_pool2d: maximum over windows."""
