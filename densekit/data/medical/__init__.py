"""Volumes: formats, geometry, layouts of folders, and the slices of a volume."""
