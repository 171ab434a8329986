"""resize_nearest: images of another size by repeating or leaving out pixels."""
