"""resize_bilinear: images of another size by bilinear interpolation."""
