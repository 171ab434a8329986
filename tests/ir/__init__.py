"""Tests of the graph: its text and its file."""
