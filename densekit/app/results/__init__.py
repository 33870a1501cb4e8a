"""Writes predictions to files, in the standard format of each task."""
