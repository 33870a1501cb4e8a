"""Predictions as files, in the standard format of each task."""
