"""Data sets of boxes.

`coco`, `coco_panoptic`, `voc`, `yolo` and `id_masks` read one format each; `dataset` holds their
base class.
"""
