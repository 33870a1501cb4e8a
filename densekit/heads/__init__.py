"""Heads: turn features into losses and predictions."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ATSS": "one_stage.atss",
        "Classification": "classification",
        "Combination": "combination",
        "DeepLabV3": "segmentation.deeplab",
        "DeepLabV3Plus": "segmentation.deeplab",
        "Embedding": "embedding.head",
        "FCN": "segmentation.fcn",
        "FCOS": "one_stage.fcos",
        "FasterRCNN": "faster_rcnn.faster_rcnn",
        "Head": "base",
        "MaskRCNN": "faster_rcnn.mask_rcnn",
        "PSPNet": "segmentation.pspnet",
        "Panoptic": "panoptic",
        "RetinaNet": "one_stage.retinanet",
        "SemanticFPN": "segmentation.semantic_fpn",
        "SSD": "one_stage.ssd",
        "SmpHead": "segmentation.smp_head",
        "UNet": "segmentation.unet",
        "UPerNet": "segmentation.upernet",
        "YOLOX": "one_stage.yolox",
    },
)
