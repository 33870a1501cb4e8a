"""Data sets of boxes.

`coco`, `voc`, `yolo` and `id_masks` read one format each; `dataset` holds their base class.
"""
