"""One file per picture, each with `draw(report) -> str`: markup of one figure, "" without data."""
