"""dynamic_depthwise_conv2d: a depthwise convolution whose output step every run finds."""
