"""Planted faults: how they are made (`faults`) and how the battery sees them (`checks`)."""
