"""Data sets of boxes.

`coco`, `voc` and `yolo` read one format each; `dataset` holds their base class.
"""
