"""What one-stage detectors share that select the best pairs of every level: up to detections.

Shape letters: B images, A anchors of all levels (A_l of one), C channels, M candidates,
D detections.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from densekit.heads.anchors import AnchorGrid
from densekit.heads.base import Head
from densekit.heads.one_stage.detections import Candidates, select_dense
from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.ops.boxes import decode_boxes
from densekit.ops.nms import Backend
from densekit.types import Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric


class Level(NamedTuple):
    """A level (B, C, h, w), its anchors (A_l, 4) and its number, from 0."""

    x: Tensor
    anchors: Tensor
    number: int


class OneStageHead(Head):
    """Base of detectors that classify and move every anchor or point of several levels.

    Args:
        levels: Specs of the levels with anchors, finest first.
        num_classes: K, without background.
        grid: The anchors.
        detection: See `DenseDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.
    """

    target_keys = ("boxes", "boxes_valid", "labels")
    main_metric = ("AP", "max")

    def __init__(
        self,
        levels: Mapping[str, FeatureSpec],
        num_classes: int,
        grid: AnchorGrid,
        *,
        detection: DenseDetectionRule,
        backend: Backend | None,
    ) -> None:
        super().__init__()
        self.reads, self.num_classes, self.grid = tuple(levels), num_classes, grid
        self.detection, self.backend = detection, backend

    def moved(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Returns the boxes (..., 4) of anchors (..., 4) that are moved by deltas (..., 4)."""
        return decode_boxes(deltas, anchors)

    @abstractmethod
    def candidates(self, level: Level) -> Candidates:
        """Returns the best pairs of an anchor and a class of one level."""

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns the best pairs of an anchor and a class of every level.

        Returns:
            scores (B, M), labels (B, M), deltas (B, M, 4) and anchors (B, M, 4).
        """
        found = [self.candidates(level) for level in self.levels(features)]
        joined = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return dict(zip(Candidates._fields, joined, strict=True))

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Selects detections above the score threshold, by descending score.

        Returns:
            boxes (B, D, 4), scores, labels 0..K-1 and valid (B, D).
        """
        found = Candidates(**outputs)
        return select_dense(found, size, self.detection, self.moved, self.backend)

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns COCO's twelve metrics and the AP of each class."""
        from densekit.metrics import CocoMap

        return {"coco": CocoMap(names=list(info["names"]))}

    def levels(self, features: Features) -> list[Level]:
        """Returns the levels that are read."""
        levels = [features[name] for name in self.reads]
        padded = int(features["c0"].shape[2]), int(features["c0"].shape[3])
        cells = [x.shape[2] * x.shape[3] * self.grid.per_cell for x in levels]
        anchors = self.grid(levels, padded).split(cells)
        return [Level(*one) for one in zip(levels, anchors, range(len(levels)), strict=True)]


def by_anchor(x: Tensor, width: int) -> Tensor:
    """Orders outputs (B, a width, h, w) by row, column and anchor of the cell: (B, A_l, width)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, width)
