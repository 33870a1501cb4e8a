"""Faster and Mask R-CNN: settings (`rules`), RPN, proposals, regions, branches, and the heads."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "RPN": "rpn",
        "BoxHead": "box_head",
        "BoxLossRule": "rules",
        "CascadeBoxHead": "cascade",
        "DetectionRule": "rules",
        "FasterRCNN": "faster_rcnn",
        "MaskHead": "mask_head",
        "MaskRCNN": "mask_rcnn",
        "MatchRule": "rules",
        "PoolRule": "rules",
        "ProposalRule": "rules",
        "SamplingRule": "rules",
        "StageRule": "rules",
        "detectron2_preset": "presets",
        "torchvision_preset": "presets",
    },
)
