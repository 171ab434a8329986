"""add: sum of two tensors with broadcasting."""
