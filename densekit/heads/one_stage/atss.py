"""ATSS: one square anchor per cell; each object chooses its anchors by a threshold of its own.

Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training
Sample Selection", 2020.

Shape letters: B images, A anchors of all levels (A_l of one), K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from densekit.heads.anchors import Assign, anchor_grid
from densekit.heads.one_stage.base import Level
from densekit.heads.one_stage.centerness import CenternessHead, centerness_loss
from densekit.heads.one_stage.dense import LEVELS
from densekit.heads.one_stage.rules import DenseDetectionRule, FocalRule
from densekit.heads.one_stage.targets import assigned, batch_total, focal_sums
from densekit.losses.box import giou_loss
from densekit.ops.adaptive_matching import AdaptiveRule, match_adaptively
from densekit.ops.boxes import DeltaWeights, centerness, decode_boxes
from densekit.ops.nms import Backend
from densekit.types import Batch, Features, FeatureSpec

ANCHOR_SCALE = 8
"""Size of an anchor in multiples of its level's stride: 64 pixels on p3 (section 4.1)."""
DELTA_WEIGHTS: DeltaWeights = (10, 10, 5, 5)
BOX_WEIGHT = 2.0
"""Weight of the boxes' loss in the authors' code."""


class ATSS(CenternessHead):
    """One-stage detector whose anchors are assigned by statistics of each object's IoU.

    It reads p3 to p7, which a neck with `extra="conv_backbone"` or `extra="conv"` has.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels with anchors, finest first, all with the same channels.
        depth: Number of 3x3 convolutions of each of the two networks before its predictors.
        norm: Norm after each of them, see `densekit.layers.Layers`.
        sizes: Size of the square anchor of each level in pixels; 8 strides by default.
        matching: See `AdaptiveRule`.
        focal: Its `gamma`, `alpha` and `prior`.
        detection: See `DenseDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.

    Raises:
        ValueError: `sizes` has not one size per level.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = LEVELS,
        depth: int = 4,
        norm: str | None = "group",
        sizes: Sequence[float] | None = None,
        matching: AdaptiveRule = AdaptiveRule(),  # noqa: B008 - frozen
        focal: FocalRule = FocalRule(),  # noqa: B008
        detection: DenseDetectionRule = DenseDetectionRule(0.05, 0.6, 100),  # noqa: B008
        backend: Backend | None = None,
    ) -> None:
        read = {name: specs[name] for name in levels}
        sizes = sizes or [ANCHOR_SCALE * spec.stride[0] for spec in read.values()]
        each = [[size] for size in sizes]
        super().__init__(
            read,
            num_classes,
            anchor_grid("sizes", read, each, [1], rounded=False, grid_strides=False),
            depth=depth,
            norm=norm,
            norm_bias=True,
            prior=focal.prior,
            detection=detection,
            backend=backend,
        )
        self.matching, self.focal = matching, focal
        self.scales = nn.Parameter(torch.ones(len(read)))

    def box_deltas(self, outputs: Tensor, level: Level) -> Tensor:
        """Returns the deltas of a level, times its learned scale."""
        return outputs * self.scales[level.number]

    def moved(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Returns the boxes (..., 4) of anchors (..., 4) that are moved by deltas (..., 4)."""
        return decode_boxes(deltas, anchors, DELTA_WEIGHTS)

    def assign(self, anchors: Sequence[Tensor]) -> Assign:
        """Returns how objects are assigned to the anchors (A_l, 4) of each level."""
        return partial(match_adaptively, levels=anchors, rule=self.matching)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the three terms `cls`, `box` (weighed by centre-ness) and `centerness`."""
        levels = self.levels(features)
        each = [level.anchors for level in levels]
        anchors = torch.cat(each)
        target = assigned(anchors, batch, self.assign(each))
        found = self.every_level(levels)
        box = giou_loss(self.moved(found.deltas, anchors), target.boxes)  # (B, A)
        central = centerness(target.boxes, anchors)
        weight = central * target.positive
        count = batch_total(target.positive)
        return {
            "cls": focal_sums(found.logits, target.classes, self.focal).sum() / count,
            "box": BOX_WEIGHT * (box * weight).sum() / batch_total(weight),
            "centerness": centerness_loss(found.central, central, target.positive) / count,
        }
