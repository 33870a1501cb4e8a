"""Semantic masks: folders, lists, VOC, COCO, and how their stored values name classes."""
