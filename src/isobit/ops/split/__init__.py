"""split: consecutive slices along an axis, one output each."""
