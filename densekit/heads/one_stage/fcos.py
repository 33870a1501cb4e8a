"""FCOS: every point of the levels predicts the class and the four sides of the object it is in.

Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, and its journal version
"FCOS: A Simple and Strong Anchor-free Object Detector", 2020 (centre sampling, centre-ness beside
the boxes, generalised IoU).

Shape letters: B images, A points of all levels (A_l of one), K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from densekit.heads.anchors import Assign, anchor_grid
from densekit.heads.one_stage.base import Level
from densekit.heads.one_stage.centerness import CenternessHead, centerness_loss
from densekit.heads.one_stage.dense import LEVELS
from densekit.heads.one_stage.rules import DenseDetectionRule, FocalRule
from densekit.heads.one_stage.targets import assigned, batch_total, focal_sums
from densekit.losses.box import giou_loss
from densekit.ops.boxes import centerness, decode_sides
from densekit.ops.nms import Backend
from densekit.ops.point_matching import PointRule, match_points
from densekit.types import Batch, Features, FeatureSpec


class FCOS(CenternessHead):
    """One-stage detector without anchor boxes.

    It reads p3 to p7, which a neck with `extra="conv_backbone"` or `extra="conv"` has. A point is
    kept as the square of one stride around it. The defaults are torchvision's: points at the
    corners of the cells, sides in multiples of the stride.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels with points, finest first, all with the same channels.
        depth: Number of 3x3 convolutions of each of the two networks before its predictors.
        norm: Norm after each of them, see `densekit.layers.Layers`.
        grid_strides: See `densekit.heads.anchors.AnchorGrid`.
        matching: See `PointRule`.
        focal: Its `gamma`, `alpha` and `prior`; all sums are divided by the batch's positives.
        detection: See `DenseDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = LEVELS,
        depth: int = 4,
        norm: str | None = "group",
        grid_strides: bool = False,
        matching: PointRule = PointRule(),  # noqa: B008 - frozen
        focal: FocalRule = FocalRule(),  # noqa: B008
        detection: DenseDetectionRule = DenseDetectionRule(0.2, 0.6, 100),  # noqa: B008
        backend: Backend | None = None,
    ) -> None:
        read = {name: specs[name] for name in levels}
        strides = [[spec.stride[0]] for spec in read.values()]
        super().__init__(
            read,
            num_classes,
            anchor_grid("levels", read, strides, [1], rounded=False, grid_strides=grid_strides),
            depth=depth,
            norm=norm,
            norm_bias=True,
            prior=focal.prior,
            detection=detection,
            backend=backend,
        )
        self.matching, self.focal = matching, focal

    def box_deltas(self, outputs: Tensor, level: Level) -> Tensor:
        """Returns the distances to the sides in strides, which are not negative."""
        return outputs.relu()

    def moved(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Returns the boxes (..., 4) of points whose sides are this many strides away."""
        return decode_sides(deltas, anchors)

    def assign(self, anchors: Sequence[Tensor]) -> Assign:
        """Returns how objects are assigned to the points of all levels, by position and size."""
        return partial(match_points, points=torch.cat(list(anchors)), rule=self.matching)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the three terms `cls`, `box` and `centerness`."""
        levels = self.levels(features)
        each = [level.anchors for level in levels]
        points = torch.cat(each)
        target = assigned(points, batch, self.assign(each))
        found = self.every_level(levels)
        box = giou_loss(self.moved(found.deltas, points), target.boxes)  # (B, A)
        central = centerness(target.boxes, points)
        count = batch_total(target.positive)
        return {
            "cls": focal_sums(found.logits, target.classes, self.focal).sum() / count,
            "box": (box * target.positive).sum() / count,
            "centerness": centerness_loss(found.central, central, target.positive) / count,
        }
