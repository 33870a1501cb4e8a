"""RetinaNet: two small networks, shared by all levels, classify and move every anchor.

Lin et al., "Focal Loss for Dense Object Detection", 2017, section 4.

Shape letters: B images, A anchors of all levels (A_l of one), K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from densekit.heads.anchors import Assign, anchor_grid
from densekit.heads.one_stage.base import Level, by_anchor
from densekit.heads.one_stage.dense import LEVELS, DenseHead
from densekit.heads.one_stage.detections import Candidates, best_of_level
from densekit.heads.one_stage.rules import DenseDetectionRule, FocalRule
from densekit.heads.one_stage.targets import assigned, focal_sums
from densekit.losses.box import SmoothL1Box
from densekit.losses.targets import full_precision
from densekit.ops.dist import global_count
from densekit.ops.matching import MatchRule, match
from densekit.ops.nms import Backend
from densekit.types import Batch, Features, FeatureSpec

ANCHOR_SCALE = 4
"""Default size of the smallest anchor in multiples of its level's stride: 32 pixels on p3."""
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Default sizes of a level's anchors, in multiples of the smallest."""
BoxLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Deltas, anchors and target boxes (..., 4) to losses (...)."""


class RetinaNet(DenseHead):
    """One-stage detector with focal loss.

    It reads p3 to p7, which a neck with `extra="conv_backbone"` or `extra="conv"` has. The defaults
    are torchvision's v1, but for exact anchors; `presets` has the settings of torchvision's v2,
    detectron2 and mmdetection.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels with anchors, finest first, all with the same channels.
        depth: Number of 3x3 convolutions of each of the two networks before its predictor.
        norm: Norm after each of them, see `densekit.layers.Layers`; torchvision's v2 has "group".
        sizes: Anchor sizes of each level in pixels; three per octave from 4 strides by default.
        aspect_ratios: Height over width.
        round_anchors: See `densekit.heads.anchors.AnchorGrid`.
        grid_strides: See `densekit.heads.anchors.AnchorGrid`.
        matching: See `MatchRule`.
        focal: See `FocalRule`.
        per_image: Whether each image's sums are divided by its own number of positive anchors and
            the mean is over images (torchvision), or all sums by that of the batch (mmdetection).
        box_loss: `SmoothL1Box` or `GIoUBox` of `densekit.losses`; plain L1 by default.
        detection: See `DenseDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.

    Raises:
        ValueError: `sizes` has not one list of equal length per level.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = LEVELS,
        depth: int = 4,
        norm: str | None = None,
        sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        round_anchors: bool = False,
        grid_strides: bool = False,
        matching: MatchRule = MatchRule(0.5, 0.4, low_quality=True),  # noqa: B008 - frozen
        focal: FocalRule = FocalRule(),  # noqa: B008
        per_image: bool = True,
        box_loss: BoxLoss = SmoothL1Box(),  # noqa: B008
        detection: DenseDetectionRule = DenseDetectionRule(),  # noqa: B008
        backend: Backend | None = None,
    ) -> None:
        read = {name: specs[name] for name in levels}
        smallest = [ANCHOR_SCALE * spec.stride[0] for spec in read.values()]
        grid = anchor_grid(
            "sizes",
            read,
            sizes or [[size * step for step in OCTAVE] for size in smallest],
            aspect_ratios,
            rounded=round_anchors,
            grid_strides=grid_strides,
        )
        super().__init__(
            read,
            num_classes,
            grid,
            depth=depth,
            norm=norm,
            norm_bias=False,
            prior=focal.prior,
            detection=detection,
            backend=backend,
        )
        self.matching, self.focal = matching, focal
        self.per_image, self.box_loss = per_image, box_loss

    def dense(self, level: Level) -> tuple[Tensor, Tensor]:
        """Predicts logits (B, A_l, K) and deltas (B, A_l, 4) of one level."""
        of_classes, of_boxes = self.towers(level.x)
        logits, deltas = self.logits(of_classes), self.deltas(of_boxes)
        return by_anchor(logits, self.num_classes), by_anchor(deltas, 4)

    def candidates(self, level: Level) -> Candidates:
        """Returns the best pairs of an anchor and a class of one level, by their logits."""
        found = best_of_level(*self.dense(level), level.anchors, self.detection.per_level)
        return found._replace(scores=full_precision(found.scores).sigmoid())

    def assign(self, anchors: Sequence[Tensor]) -> Assign:
        """Returns how objects are assigned to the anchors (A_l, 4) of all levels, by IoU."""
        return partial(match, boxes=torch.cat(list(anchors)), rule=self.matching)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the two terms `cls` and `box`."""
        levels = self.levels(features)
        each = [level.anchors for level in levels]
        every = torch.cat(each)
        target = assigned(every, batch, self.assign(each))
        logits, deltas = zip(*map(self.dense, levels), strict=True)
        cls = focal_sums(logits, target.classes, self.focal)  # (B,)
        box = self.box_loss(full_precision(torch.cat(deltas, 1)), every, target.boxes)  # (B, A)
        weight = self._image_weights(target.positive, batch["sample_valid"])
        return {
            "cls": (cls * weight).sum(),
            "box": ((box * target.positive).sum(1) * weight).sum(),
        }

    def _image_weights(self, positive: Tensor, valid: Tensor) -> Tensor:
        """What each image's sums are multiplied by, (B,)."""
        count = positive.sum(1).clamp(min=1)
        if self.per_image:
            return 1 / (count * global_count(valid.sum()))
        return (1 / global_count((count * valid).sum())).expand(len(count))
