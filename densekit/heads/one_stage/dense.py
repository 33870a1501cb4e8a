"""What one-stage detectors with two shared networks have in common.

Shape letters: B images, A anchors of all levels (A_l of one), K classes, C channels, M candidates,
D detections.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from densekit.heads.anchors import AnchorGrid, Assign, unreached
from densekit.heads.base import Head
from densekit.heads.one_stage.detections import Candidates, select_dense
from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.layers import ConvNorm, Layers
from densekit.ops.boxes import decode_boxes
from densekit.ops.nms import Backend
from densekit.types import Batch, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric

LEVELS = ("p3", "p4", "p5", "p6", "p7")
"""Levels of a neck with `extra="conv_backbone"` or `extra="conv"`."""


class Level(NamedTuple):
    """A level (B, C, h, w), its anchors (A_l, 4) and its number, from 0."""

    x: Tensor
    anchors: Tensor
    number: int


class DenseHead(Head):
    """Base of detectors whose two networks, shared by all levels, classify and move every anchor.

    Args:
        levels: Specs of the levels with anchors, finest first, all with the same channels.
        num_classes: K, without background.
        grid: The anchors.
        depth: Number of 3x3 convolutions of each network before its predictor.
        norm: Norm after each of them, see `densekit.layers.Layers`.
        norm_bias: Whether they have a bias beside a norm too.
        prior: Probability of each class at the start of training (Lin et al. 2017, section 4.1).
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
        depth: int,
        norm: str | None,
        norm_bias: bool,
        prior: float,
        detection: DenseDetectionRule,
        backend: Backend | None,
    ) -> None:
        super().__init__()
        self.reads, self.num_classes, self.grid = tuple(levels), num_classes, grid
        self.detection, self.backend = detection, backend
        self.channels = next(iter(levels.values())).channels
        make = _layer_with_bias if norm_bias else _layer
        self.cls_convs = nn.ModuleList(make(self.channels, norm) for _ in range(depth))
        self.box_convs = nn.ModuleList(make(self.channels, norm) for _ in range(depth))
        self.logits = self.predictor(grid.per_cell * num_classes)
        self.deltas = self.predictor(grid.per_cell * 4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - prior) / prior))

    def predictor(self, outputs: int) -> nn.Conv2d:
        """Makes the last convolution of one of the networks."""
        layer = nn.Conv2d(self.channels, outputs, 3, padding=1)
        _initialise(layer)
        return layer

    def towers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the predictors of classes and of boxes read, (B, C, h, w) each."""
        of_classes, of_boxes = x, x
        for conv in self.cls_convs:
            of_classes = conv(of_classes).relu_()
        for conv in self.box_convs:
            of_boxes = conv(of_boxes).relu_()
        return of_classes, of_boxes

    def moved(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Returns the boxes (..., 4) of anchors (..., 4) that are moved by deltas (..., 4)."""
        return decode_boxes(deltas, anchors)

    @abstractmethod
    def assign(self, anchors: Sequence[Tensor]) -> Assign:
        """Returns how objects are assigned to the anchors (A_l, 4) of all levels."""

    def unreached(self, batch: Batch, padded: tuple[int, int]) -> Tensor:
        """See `Head.unreached`."""
        anchors = self.grid.of_image(padded, batch["boxes"].device)
        return unreached(batch, self.assign(anchors))

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


def _layer(channels: int, norm: str | None) -> ConvNorm:
    return Layers(2, norm).conv_norm(channels, channels, 3)


def _layer_with_bias(channels: int, norm: str | None) -> ConvNorm:
    make = Layers(2, norm)
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    return ConvNorm(conv, None if norm is None else make.normalisation(channels))


def _initialise(layer: nn.Conv2d) -> None:
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
