"""Settings of one-stage detectors, one dataclass per step; the defaults are torchvision's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FocalRule:
    """How the classes of anchors are penalised (Lin et al. 2017, section 3.2).

    Attributes:
        gamma: Exponent of the focal factor.
        alpha: Weight of an anchor's own class; the other classes get 1 - alpha.
        prior: Probability of each class at the start of training (section 4.1).
    """

    gamma: float = 2.0
    alpha: float = 0.25
    prior: float = 0.01


@dataclass(frozen=True)
class DenseDetectionRule:
    """How scores and boxes of anchors become detections.

    Attributes:
        score_threshold: Detections at or below it are dropped.
        nms_iou: Detections of one class with a larger IoU are suppressed.
        max_detections: Most detections per image.
        per_level: Best (anchor, class) pairs of each level that are considered.
        clip_first: Whether boxes are clipped to the image before suppression, or after it and the
            cut to `max_detections` (detectron2).
        drop_empty: Whether clipped boxes without an area are dropped; torchvision keeps them.
    """

    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 300
    per_level: int = 1000
    clip_first: bool = True
    drop_empty: bool = False


@dataclass(frozen=True)
class MultiBoxDetectionRule:
    """How class probabilities and boxes become detections of SSD.

    Attributes:
        score_threshold: Detections at or below it are dropped.
        nms_iou: Detections of one class with a larger IoU are suppressed.
        max_detections: Most detections per image.
        per_class: Best boxes of each class that are considered.
    """

    score_threshold: float = 0.01
    nms_iou: float = 0.45
    max_detections: int = 200
    per_class: int = 400
