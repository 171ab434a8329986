"""Rewrites of graphs. One file is one pass, and its name is the pass's name."""
