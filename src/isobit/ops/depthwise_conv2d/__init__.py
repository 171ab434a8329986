"""depthwise_conv2d: 2-D convolution, every output channel of one input channel."""
