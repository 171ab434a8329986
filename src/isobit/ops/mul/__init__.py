"""mul: product of two tensors with broadcasting."""
