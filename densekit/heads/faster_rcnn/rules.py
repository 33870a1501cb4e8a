"""The plain numbers of Faster R-CNN, one small record a step; the defaults are torchvision's."""

from __future__ import annotations

from dataclasses import dataclass

from densekit.ops.boxes import DeltaWeights
from densekit.ops.matching import MatchRule

__all__ = [
    "BoxLossRule",
    "DetectionRule",
    "MatchRule",
    "PoolRule",
    "ProposalRule",
    "SamplingRule",
]


@dataclass(frozen=True)
class ProposalRule:
    """How dense predictions become proposals.

    Attributes:
        train_pre_nms: Best anchors of each level that are decoded, while training.
        train_post_nms: Proposals an image after suppression, while training.
        test_pre_nms: The same for inference.
        test_post_nms: The same for inference.
        nms_iou: Proposals of one level that overlap more are suppressed.
        min_size: Smallest side in pixels; a box without area is none, at 0 too.
    """

    train_pre_nms: int = 2000
    train_post_nms: int = 2000
    test_pre_nms: int = 1000
    test_post_nms: int = 1000
    nms_iou: float = 0.7
    min_size: float = 1e-3


@dataclass(frozen=True)
class SamplingRule:
    """How many rows of an image a loss looks at.

    Attributes:
        count: Rows an image.
        positive_fraction: Largest share of positives among them.
        divide_by_drawn: Losses are means over the rows really drawn (torchvision), or sums divided
            by `count` an image (detectron2's RPN).
    """

    count: int
    positive_fraction: float
    divide_by_drawn: bool = True


@dataclass(frozen=True)
class BoxLossRule:
    """How deltas are weighed.

    Attributes:
        beta: Where smooth L1 turns linear; 0 is plain L1, detectron2's choice.
        delta_weights: Factors of dx, dy, dw, dh.
    """

    beta: float = 1 / 9
    delta_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class PoolRule:
    """RoIAlign.

    Attributes:
        output: Bins an axis.
        samples: Samples a bin and axis; 0 takes ceil(side / output), as detectron2 does, through
            torchvision's kernel.
        aligned: Shift by half a cell (detectron2) or not (torchvision).
        canonical_size: Boxes of this side are pooled from p4, half of it from p3, and so on.
    """

    output: int = 7
    samples: int = 2
    aligned: bool = False
    canonical_size: float = 224


@dataclass(frozen=True)
class DetectionRule:
    """How class scores and boxes become detections.

    Attributes:
        score_threshold: Detections at or below it are dropped.
        nms_iou: Detections of one class that overlap more are suppressed.
        max_detections: Detections an image.
        min_size: Smallest side in pixels; a box without area is none, at 0 too.
        candidates: Most (box, class) pairs an image that the static back end looks at; where more
            pass the threshold, `overflow` says so.
    """

    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2
    candidates: int = 2000
