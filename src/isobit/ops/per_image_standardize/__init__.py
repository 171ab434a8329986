"""per_image_standardize: every image to mean 0 and deviation 1, in integers."""
