"""A densekit plug-in: CenterNet, which detects objects as peaks of a heatmap."""
