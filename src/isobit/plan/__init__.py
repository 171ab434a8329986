"""From an integer graph to a plan: which kernel computes each node, and where every byte lives."""
