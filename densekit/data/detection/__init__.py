"""Boxes: COCO and VOC annotations, checked while they are read."""
