"""Planted faults: how they are made (`faults`) and how the battery is asked about one
(`checks`).
"""
