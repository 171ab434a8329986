"""mirror_pad: x surrounded by its own reflection."""
