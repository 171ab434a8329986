"""reshape: the same codes under another shape."""
