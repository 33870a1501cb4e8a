"""A densekit plug-in: counts the objects of each class."""
