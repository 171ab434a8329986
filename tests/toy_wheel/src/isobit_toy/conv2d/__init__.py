"""A kernel for isobit's own conv2d."""
