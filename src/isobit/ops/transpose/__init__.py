"""transpose: axes in another order."""
