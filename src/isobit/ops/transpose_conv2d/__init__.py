"""transpose_conv2d: transposed convolution."""
