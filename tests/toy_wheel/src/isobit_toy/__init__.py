"""A third-party wheel: `pip install` it and isobit has one more operator, kernel and core."""
