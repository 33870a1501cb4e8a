"""Comparisons: runs with each other, a model with a peer, a part with its contract."""
