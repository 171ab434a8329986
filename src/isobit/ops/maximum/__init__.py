"""maximum: the larger or smaller of two tensors with broadcasting."""
