"""Settings of torchvision, detectron2 and mmdetection, as keyword arguments of `RetinaNet`.

    head = partial(RetinaNet, num_classes=80, **detectron2_retinanet())

For the neck that each of them needs see `docs/detection.md`.
"""

from __future__ import annotations

from typing import Any

from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.losses.box import GIoUBox

TORCHVISION_SIZES = tuple(
    tuple(int(size * 2 ** (step / 3)) for step in range(3)) for size in (32, 64, 128, 256, 512)
)


def torchvision_retinanet(version: int = 1) -> dict[str, Any]:
    """Returns the settings of torchvision's `retinanet_resnet50_fpn` (version 1) or `..._v2` (2).

    Anchors of whole pixels; in version 2 group norm and the loss of generalised IoU.

    Raises:
        ValueError: The version is neither 1 nor 2.
    """
    if version not in (1, 2):
        raise ValueError(f"version: expected 1 or 2, got {version}")
    anchors = {"sizes": TORCHVISION_SIZES, "round_anchors": True, "grid_strides": True}
    return anchors if version == 1 else {**anchors, "norm": "group", "box_loss": GIoUBox()}


def detectron2_retinanet() -> dict[str, Any]:
    """Returns the settings of detectron2's `retinanet_R_50_FPN`.

    Boxes are clipped after suppression. The losses are divided by the positive anchors of the
    batch; detectron2 takes their moving average over the steps.
    """
    return {
        "per_image": False,
        "detection": DenseDetectionRule(max_detections=100, clip_first=False, drop_empty=True),
    }


def mmdet_retinanet() -> dict[str, Any]:
    """Returns the settings of mmdetection's `retinanet_r50_fpn`."""
    return {
        "per_image": False,
        "detection": DenseDetectionRule(max_detections=100, drop_empty=True),
    }
