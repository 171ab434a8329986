"""dynamic_conv2d: a convolution whose output step every run finds from its sums."""
