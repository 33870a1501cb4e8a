"""Metrics of boxes: average precision by several protocols, and why it is what it is."""
