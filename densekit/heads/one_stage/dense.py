"""What one-stage detectors with two shared networks have in common.

Shape letters: B images, A anchors of all levels (A_l of one), K classes, C channels.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from densekit.heads.anchors import AnchorGrid, Assign, unreached
from densekit.heads.one_stage.base import OneStageHead
from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.layers import ConvNorm, Layers
from densekit.ops.nms import Backend
from densekit.types import Batch, FeatureSpec

LEVELS = ("p3", "p4", "p5", "p6", "p7")
"""Levels of a neck with `extra="conv_backbone"` or `extra="conv"`."""


class DenseHead(OneStageHead):
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
        super().__init__(levels, num_classes, grid, detection=detection, backend=backend)
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

    @abstractmethod
    def assign(self, anchors: Sequence[Tensor]) -> Assign:
        """Returns how objects are assigned to the anchors (A_l, 4) of all levels."""

    def unreached(self, batch: Batch, padded: tuple[int, int]) -> Tensor:
        """See `Head.unreached`."""
        anchors = self.grid.of_image(padded, batch["boxes"].device)
        return unreached(batch, self.assign(anchors))


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
