"""mean_image: subtract a stored mean per pixel, shift."""
