"""A densekit plug-in: CenterNet, which detects objects as peaks of a heatmap."""

CONTRACT = 1
"""Version of the densekit contract that this package implements."""
