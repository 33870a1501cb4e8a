"""What one-stage detectors have in common that predict how central an anchor lies in its object.

Shape letters: B images, A anchors of all levels (A_l of one), K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.heads.one_stage.base import Level, by_anchor
from densekit.heads.one_stage.dense import DenseHead
from densekit.heads.one_stage.detections import Candidates, best_of_level
from densekit.losses.targets import full_precision


class Dense(NamedTuple):
    """Outputs of all anchors.

    Attributes:
        logits: (B, A_l, K) of each level.
        deltas: (B, A, 4).
        central: Logits of the centre-ness (B, A), in full precision.
    """

    logits: Sequence[Tensor]
    deltas: Tensor
    central: Tensor


class CenternessHead(DenseHead):
    """Base of FCOS and ATSS, whose boxes' network predicts the centre-ness too.

    A detection's score is the geometric mean of the probability of its class and its centre-ness.

    Args:
        arguments: Of `DenseHead`.
        settings: Of `DenseHead`.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.centerness = self.predictor(self.grid.per_cell)

    def box_deltas(self, outputs: Tensor, level: Level) -> Tensor:
        """Returns the deltas of a level from the outputs of its predictor, both (B, A_l, 4)."""
        return outputs

    def dense(self, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts logits (B, A_l, K), deltas (B, A_l, 4), centre-ness (B, A_l, 1) of a level."""
        of_classes, of_boxes = self.towers(level.x)
        return (
            by_anchor(self.logits(of_classes), self.num_classes),
            self.box_deltas(by_anchor(self.deltas(of_boxes), 4), level),
            by_anchor(self.centerness(of_boxes), 1),
        )

    def every_level(self, levels: Sequence[Level]) -> Dense:
        """Predicts all levels."""
        logits, deltas, central = zip(*map(self.dense, levels), strict=True)
        return Dense(logits, torch.cat(deltas, 1), full_precision(torch.cat(central, 1)[..., 0]))

    def candidates(self, level: Level) -> Candidates:
        """Returns the best pairs of an anchor and a class of one level."""
        logits, deltas, central = self.dense(level)
        scores = (full_precision(logits).sigmoid() * full_precision(central).sigmoid()).sqrt()
        return best_of_level(scores, deltas, level.anchors, self.detection.per_level)


def centerness_loss(central: Tensor, target: Tensor, positive: Tensor) -> Tensor:
    """Returns the sum of the binary cross-entropy over the positive anchors.

    Args:
        central: Logits (B, A).
        target: (B, A), 0 to 1.
        positive: (B, A) bool.
    """
    loss = F.binary_cross_entropy_with_logits(central, target.to(central.dtype), reduction="none")
    return (loss * positive).sum()
