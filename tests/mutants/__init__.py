"""What planted faults showed to be untested: the inner functions of kernels."""
