"""Settings of torchvision and detectron2, as keyword arguments of `FasterRCNN`.

    head = partial(FasterRCNN, num_classes=80, **detectron2_preset())

For the backbone's settings (stride in the 1x1 convolution, BGR images, frozen norm) see
`docs/detection.md`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from densekit.heads.faster_rcnn.box_head import BoxHead
from densekit.heads.faster_rcnn.rpn import RPN
from densekit.heads.faster_rcnn.rules import (
    BoxLossRule,
    DetectionRule,
    PoolRule,
    ProposalRule,
    SamplingRule,
)

_RCNN_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def torchvision_preset(version: int = 1) -> dict[str, Any]:
    """Returns the settings of torchvision's `fasterrcnn_resnet50_fpn` (version 1) or `..._v2` (2).

    Version 2 (Li et al., "Benchmarking Detection Transfer Learning with Vision Transformers",
    2021) has two convolutions in the RPN and a box head of four convolutions with batch norm and
    one fully connected layer.

    Raises:
        ValueError: The version is neither 1 nor 2.
    """
    if version == 1:
        return {"rpn": RPN, "box_head": BoxHead}
    if version != 2:
        raise ValueError(f"version: expected 1 or 2, got {version}")
    return {
        "rpn": partial(RPN, depth=2),
        "box_head": partial(
            BoxHead, convs=(256, 256, 256, 256), hidden=(1024,), norm=nn.BatchNorm2d
        ),
    }


def detectron2_preset() -> dict[str, Any]:
    """Returns the settings of detectron2's `faster_rcnn_R_50_FPN`.

    Aligned adaptive RoIAlign, L1 losses and anchors that are not rounded.
    """
    return {
        "rpn": partial(
            RPN,
            round_anchors=False,
            grid_strides=False,
            proposals=ProposalRule(train_post_nms=1000, min_size=0.0),
            sampling=SamplingRule(256, 0.5, divide_by_drawn=False),
            box_loss=BoxLossRule(beta=0.0),
        ),
        "box_head": partial(
            BoxHead,
            pool=PoolRule(samples=0, aligned=True),
            box_loss=BoxLossRule(beta=0.0, delta_weights=_RCNN_WEIGHTS),
        ),
        "detection": DetectionRule(min_size=0.0),
    }
