"""What users hold: `Model` (torch), `Bundle`, `Estimate`, `load`, `fit`."""
