"""Data sets of categories: images, series and sequences.

`folder` and `table` are the formats of images, `series` (UCR archives) and `sequences` (DNA) those
of one dimension; `dataset` is what they share.
"""
