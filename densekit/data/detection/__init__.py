"""Data sets of boxes.

`coco` and `voc` are the formats, `dataset` is what both read their annotations into.
"""
