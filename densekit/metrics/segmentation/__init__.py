"""Metrics of masks of any dimension."""
