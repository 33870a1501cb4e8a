"""Data sets of boxes.

`coco` and `voc` read one format each; `dataset` holds their base class.
"""
