"""Data sets of categories: images, series and sequences.

`folder` and `table` read images, `series` (UCR archives) and `sequences` (DNA) data of one
dimension; `dataset` holds their base classes.
"""
