"""A densekit plug-in: objects as points of a heatmap."""

CONTRACT = 1
"""Version of densekit's contract that this package keeps."""
