"""What the anchors of one-stage detectors are trained towards, and the loss of their classes.

Shape letters: B images, A anchors of all levels (A_l of one), K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densekit.heads.anchors import Assign, label_anchors
from densekit.heads.one_stage.rules import FocalRule
from densekit.losses.anchor_focal import focal_sum
from densekit.ops.dist import SMALLEST_COUNT, global_count
from densekit.ops.matching import IGNORED, POSITIVE
from densekit.types import Batch

BACKGROUND, LEFT_OUT = -1, -2
"""Classes of an anchor without an object, and of one that does not count."""


class Targets(NamedTuple):
    """Targets of every anchor.

    Attributes:
        classes: (B, A), 0..K-1, `BACKGROUND` or `LEFT_OUT`.
        boxes: (B, A, 4); of an anchor without an object itself, so that the loss and its gradient
            are finite before they are multiplied by 0.
        positive: (B, A) bool, which anchors have an object.
    """

    classes: Tensor
    boxes: Tensor
    positive: Tensor


@torch.no_grad()
def assigned(anchors: Tensor, batch: Batch, assign: Assign) -> Targets:
    """Returns the targets of anchors (A, 4); of images that are repeats none counts."""
    index, label = label_anchors(anchors, batch, assign)
    label = label.masked_fill(~batch["sample_valid"][:, None], IGNORED)
    positive = label == POSITIVE
    classes = torch.where(positive, batch["labels"].gather(1, index), BACKGROUND)
    boxes = batch["boxes"].gather(1, index[..., None].expand(-1, -1, 4))
    return Targets(
        classes.masked_fill(label == IGNORED, LEFT_OUT),
        torch.where(positive[..., None], boxes, anchors),
        positive,
    )


def focal_sums(logits: Sequence[Tensor], classes: Tensor, rule: FocalRule) -> Tensor:
    """Returns the sum of the focal loss of each image, (B,).

    Args:
        logits: (B, A_l, K) of each level.
        classes: (B, A), see `Targets`.
        rule: Its gamma and alpha.
    """
    parts = zip(logits, classes.split([x.shape[1] for x in logits], 1), strict=True)
    sums = [focal_sum(x, own, own != LEFT_OUT, rule.gamma, rule.alpha) for x, own in parts]
    return torch.stack(sums).sum(0)


def batch_total(values: Tensor) -> Tensor:
    """Returns the sum over the batch of all processes as a divisor, 1 if it is 0."""
    total = global_count(values.sum())
    return torch.where(total > SMALLEST_COUNT, total, 1.0)
