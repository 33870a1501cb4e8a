"""Comparisons: between runs, of a model with its peer, of a part with its contract."""
