"""Detectors that classify every anchor: settings (`rules`), selection of detections, the heads."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ATSS": "atss",
        "DenseDetectionRule": "rules",
        "FCOS": "fcos",
        "FocalRule": "rules",
        "MultiBoxDetectionRule": "rules",
        "RetinaNet": "retinanet",
        "SSD": "ssd",
        "YOLOX": "yolox",
        "detectron2_retinanet": "presets",
        "mmdet_retinanet": "presets",
        "torchvision_retinanet": "presets",
    },
)
