"""Metrics of categories, exclusive and multi-label."""
