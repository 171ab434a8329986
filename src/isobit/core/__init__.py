"""Foundations that every other package may import: errors, number types, tensor types,
requantisation.
"""
