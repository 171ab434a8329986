"""conv2d: 2-D convolution."""
