"""Settings of Faster R-CNN, one dataclass per step; the defaults are torchvision's."""

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
    "StageRule",
]


@dataclass(frozen=True)
class ProposalRule:
    """How dense predictions become proposals.

    Attributes:
        train_pre_nms: Best anchors decoded per level in training.
        train_post_nms: Proposals kept per image after NMS in training.
        test_pre_nms: As `train_pre_nms`, at inference.
        test_post_nms: As `train_post_nms`, at inference.
        nms_iou: Proposals of one level with a larger IoU are suppressed.
        min_size: Smallest side in pixels; boxes without area are dropped even at 0.
    """

    train_pre_nms: int = 2000
    train_post_nms: int = 2000
    test_pre_nms: int = 1000
    test_post_nms: int = 1000
    nms_iou: float = 0.7
    min_size: float = 1e-3


@dataclass(frozen=True)
class SamplingRule:
    """How many anchors or regions per image enter a loss.

    Attributes:
        count: Samples per image.
        positive_fraction: Largest share of positives among them.
        divide_by_drawn: Whether losses are means over the samples actually drawn (torchvision) or
            sums divided by `count` per image (detectron2's RPN).
    """

    count: int
    positive_fraction: float
    divide_by_drawn: bool = True


@dataclass(frozen=True)
class BoxLossRule:
    """How box deltas are scaled and penalised.

    Attributes:
        beta: Error at which smooth L1 becomes linear; 0 is plain L1, detectron2's choice.
        delta_weights: Factors of dx, dy, dw, dh.
    """

    beta: float = 1 / 9
    delta_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class StageRule:
    """A stage of a cascade.

    Attributes:
        iou: IoU with an object from which a region is positive.
        delta_weights: See `BoxLossRule`; later stages correct less, so theirs are larger.
    """

    iou: float
    delta_weights: DeltaWeights


@dataclass(frozen=True)
class PoolRule:
    """How RoIAlign pools regions.

    Attributes:
        output: Bins per axis.
        samples: Samples per bin and axis; 0 uses ceil(side / output), as detectron2 does, with
            torchvision's kernel.
        aligned: Whether to shift by half a cell (detectron2) or not (torchvision).
        canonical_size: Boxes of this side are pooled from p4, those of half the side from p3, and
            so on.
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
        nms_iou: Detections of one class with a larger IoU are suppressed.
        max_detections: Most detections per image.
        min_size: Smallest side in pixels; boxes without area are dropped even at 0.
        candidates: Most (box, class) pairs per image that the static back end considers;
            `overflow` is true where more pass the threshold.
    """

    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2
    candidates: int = 2000
