"""A densekit plug-in: objects as points of a heatmap."""
