"""softmax: exponentials over their sum, in fixed point."""
