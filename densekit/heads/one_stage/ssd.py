"""SSD: each level classifies and moves default boxes of its own scale by predictors of its own.

Liu et al., "SSD: Single Shot MultiBox Detector", 2016.

Shape letters: B images, A default boxes of all levels (A_l of one), K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.anchors import Assign, unreached
from densekit.heads.base import Head
from densekit.heads.one_stage.base import by_anchor
from densekit.heads.one_stage.per_class import select_per_class
from densekit.heads.one_stage.rules import MultiBoxDetectionRule
from densekit.heads.one_stage.targets import LEFT_OUT, Targets, assigned, batch_total
from densekit.losses.box import smooth_l1
from densekit.losses.multibox import mined
from densekit.losses.targets import full_precision
from densekit.ops.boxes import DeltaWeights, decode_boxes, encode_boxes
from densekit.ops.default_boxes import (
    default_boxes,
    published_ratios,
    published_sizes,
    sides_of_cell,
)
from densekit.ops.multibox_matching import match_multibox
from densekit.ops.nms import Backend
from densekit.types import Batch, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric

DELTA_WEIGHTS: DeltaWeights = (10, 10, 5, 5)
"""Reciprocals of the variances of the authors' code."""


class SSD(Head):
    """One-stage detector without towers: one 3x3 convolution per level predicts, another moves.

    It reads levels of the backbone and adds coarser ones; with `extra_channels=()` it reads those
    of a pyramid as well. Levels may differ in channels and in boxes per cell.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels that are read, finest first.
        extra_channels: Channels of each further level, of twice the stride of the one before: a
            1x1 convolution to half of them and a 3x3 one of stride 2, each with a ReLU.
        side: Side of the images that the published sizes are computed for, in pixels.
        sizes: Of the default boxes of each level in pixels, and one more, which bounds the extra
            box of the coarsest; by default the published ones.
        aspect_ratios: Ratios of each level beside 1, the longer side over the shorter; by default
            the published ones, 2 and 3, and 2 alone on the finest and the two coarsest levels.
        positive_iou: See `match_multibox`.
        negatives: Hard negatives per positive box.
        detection: See `MultiBoxDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.

    Raises:
        ValueError: `sizes` has not one more size than there are levels, or `aspect_ratios` not one
            list per level.
    """

    target_keys = ("boxes", "boxes_valid", "labels")
    main_metric = ("AP", "max")

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = ("c3", "c4", "c5"),
        extra_channels: Sequence[int] = (512, 256, 256),
        side: float = 300,
        sizes: Sequence[float] | None = None,
        aspect_ratios: Sequence[Sequence[float]] | None = None,
        positive_iou: float = 0.5,
        negatives: float = 3.0,
        detection: MultiBoxDetectionRule = MultiBoxDetectionRule(),  # noqa: B008 - frozen
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        self.reads, self.num_classes = tuple(levels), num_classes
        self.positive_iou, self.negatives = positive_iou, negatives
        self.detection, self.backend = detection, backend
        widths = [specs[name].channels for name in levels]
        strides = [(specs[name].stride[0], specs[name].stride[1]) for name in levels]
        self.extra = nn.ModuleList()
        for channels in extra_channels:
            self.extra.append(_extra_level(widths[-1], channels))
            widths.append(channels)
            strides.append((2 * strides[-1][0], 2 * strides[-1][1]))
        self.strides = tuple(strides)
        count = len(widths)
        sizes = sizes or published_sizes(count, side)
        ratios = aspect_ratios or published_ratios(count)
        _check_lengths(sizes, ratios, count)
        self.sides = tuple(map(sides_of_cell, sizes, sizes[1:], ratios))
        boxes = [len(sides) for sides in self.sides]
        outputs = num_classes + 1
        self.logits = nn.ModuleList(
            nn.Conv2d(width, per_cell * outputs, 3, padding=1)
            for width, per_cell in zip(widths, boxes, strict=True)
        )
        self.deltas = nn.ModuleList(
            nn.Conv2d(width, per_cell * 4, 3, padding=1)
            for width, per_cell in zip(widths, boxes, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module)

    def levels(self, features: Features) -> list[Tensor]:
        """Returns the levels that are read and the coarser ones, (B, C, h, w) each."""
        levels = [features[name] for name in self.reads]
        for layer in self.extra:
            levels.append(layer(levels[-1]))
        return levels

    def dense(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Returns the logits (B, A_l, K + 1) of each level, background last; deltas (B, A, 4)."""
        logits = [
            by_anchor(layer(x), self.num_classes + 1)
            for layer, x in zip(self.logits, levels, strict=True)
        ]
        deltas = [by_anchor(layer(x), 4) for layer, x in zip(self.deltas, levels, strict=True)]
        return logits, full_precision(torch.cat(deltas, 1))

    def boxes(self, levels: Sequence[Tensor]) -> Tensor:
        """Returns the default boxes (A, 4) of the levels."""
        grids = tuple((int(level.shape[2]), int(level.shape[3])) for level in levels)
        return default_boxes(grids, self.strides, self.sides, levels[0].device)

    def unreached(self, batch: Batch, padded: tuple[int, int]) -> Tensor:
        """See `Head.unreached`."""
        grids = tuple((-(-padded[0] // y), -(-padded[1] // x)) for y, x in self.strides)
        boxes = default_boxes(grids, self.strides, self.sides, batch["boxes"].device)
        return unreached(batch, self._assign(boxes))

    def _assign(self, boxes: Tensor) -> Assign:
        return partial(match_multibox, boxes=boxes, positive_iou=self.positive_iou)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the two terms `cls` and `box`, divided by the batch's positive boxes."""
        levels = self.levels(features)
        anchors = self.boxes(levels)
        target = assigned(anchors, batch, self._assign(anchors))
        logits, deltas = self.dense(levels)
        entropy = self._entropy(logits, target)  # (B, A)
        background = ~target.positive & (target.classes != LEFT_OUT)
        offsets = encode_boxes(target.boxes, anchors.to(deltas.dtype), DELTA_WEIGHTS)
        error = smooth_l1(deltas, offsets, 1.0).sum(-1)
        count = batch_total(target.positive)
        return {
            "cls": mined(entropy, target.positive, background, self.negatives).sum() / count,
            "box": (error * target.positive).sum() / count,
        }

    def _entropy(self, logits: Sequence[Tensor], target: Targets) -> Tensor:
        """The cross-entropy (B, A), level by level: logits are not copied to join them."""
        classes = torch.where(target.positive, target.classes, self.num_classes)
        parts = classes.split([x.shape[1] for x in logits], 1)
        losses = [
            F.cross_entropy(full_precision(x).flatten(0, 1), part.flatten(), reduction="none")
            for x, part in zip(logits, parts, strict=True)
        ]
        return torch.cat([loss.view_as(part) for loss, part in zip(losses, parts, strict=True)], 1)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns the probabilities and the box of every default box.

        Returns:
            scores (B, A, K) and boxes (B, A, 4).
        """
        levels = self.levels(features)
        logits, deltas = self.dense(levels)
        scores = [full_precision(x).softmax(2)[..., :-1] for x in logits]
        boxes = decode_boxes(deltas, self.boxes(levels), DELTA_WEIGHTS)
        return {"scores": torch.cat(scores, 1), "boxes": boxes}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Selects detections above the score threshold, by descending score.

        Returns:
            boxes (B, D, 4), scores, labels 0..K-1 and valid (B, D).
        """
        return select_per_class(
            outputs["scores"], outputs["boxes"], size, self.detection, self.backend
        )

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns COCO's twelve metrics and the AP of each class."""
        from densekit.metrics import CocoMap

        return {"coco": CocoMap(names=list(info["names"]))}


def _extra_level(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs // 2, 1),
        nn.ReLU(),
        nn.Conv2d(outputs // 2, outputs, 3, stride=2, padding=1),
        nn.ReLU(),
    )


def _initialise(layer: nn.Conv2d) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _check_lengths(sizes: Sequence[float], ratios: Sequence[Sequence[float]], levels: int) -> None:
    if len(sizes) != levels + 1:
        raise ValueError(
            f"sizes: expected one per level and one more, {levels + 1}, got {list(sizes)}"
        )
    if len(ratios) != levels:
        raise ValueError(
            f"aspect_ratios: expected one list per level, {levels}, got {list(ratios)}"
        )
