"""Regions of the second stage: those of its losses, their pooled bins, convolutions on these.

Shape letters: B images, N sampled slots of an image, R regions of all images, C channels, o bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densekit.heads.faster_rcnn.rules import PoolRule
from densekit.ops.masked_norm import masked_batch_norm
from densekit.ops.portable import formulated_for_onnx
from densekit.ops.roi import (
    PyramidTable,
    assign_levels,
    roi_align_by_level,
    roi_align_pyramid,
)
from densekit.types import FeatureSpec


class Sampled(NamedTuple):
    """The regions of the losses, positive ones first, and what they are trained towards.

    Attributes:
        boxes: (B, N, 4); what an empty slot holds means nothing.
        matched: (B, N) int64, the object of each.
        target: (B, N) int64, class of 0..K with K for background.
        valid: (B, N) bool, false for empty slots.
    """

    boxes: Tensor
    matched: Tensor
    target: Tensor
    valid: Tensor


@dataclass(frozen=True)
class PooledLevels:
    """The levels that regions are pooled from.

    Attributes:
        strides: Vertical and horizontal stride of each, finest first.
        lowest: Number of the first, 2 for p2.
        highest: Number of the last.
    """

    strides: tuple[tuple[int, int], ...]
    lowest: int
    highest: int

    @classmethod
    def of(cls, specs: Mapping[str, FeatureSpec]) -> PooledLevels:
        """The levels of these specs, named p<number>."""
        numbers = [int(name[1:]) for name in specs]
        strides = tuple((spec.stride[0], spec.stride[1]) for spec in specs.values())
        return cls(strides, numbers[0], numbers[-1])


def pool_regions(
    table: PyramidTable,
    levels: Sequence[Tensor],
    boxes: Tensor,
    image: Tensor,
    pooled: PooledLevels,
    rule: PoolRule,
) -> tuple[Tensor, Tensor | None]:
    """Pools each region from the level of its size.

    A program for ONNX puts the few outputs of the regions in order, not their many bins.

    Args:
        table: Cells of all levels the detector reads; the pooled ones come first.
        levels: The pooled levels.
        boxes: (R, 4).
        image: (R,) int64.
        pooled: What the levels are.
        rule: See `PoolRule`.

    Returns:
        The bins (R, o, o, C), and the row of each region among them (R,) if that is not its own.
    """
    level = assign_levels(boxes, pooled.lowest, pooled.highest, rule.canonical_size)
    how = (pooled.strides, rule.output, rule.samples, rule.aligned)
    if rule.samples == 0 or formulated_for_onnx():
        bins, place = roi_align_by_level(levels, boxes, image, level, *how)
        return (bins, place) if formulated_for_onnx() else (bins[place], None)
    return roi_align_pyramid(table, boxes, image, level, *how), None


class RegionConvs(nn.Sequential):
    """3x3 convolutions on pooled bins, each with an optional norm and a ReLU.

    Args:
        channels: C of the bins, then the channels of each convolution.
        norm: Makes a norm layer from a number of channels.
    """

    def __init__(self, channels: Sequence[int], norm: type[nn.Module] | None = None) -> None:
        super().__init__(*(_block(a, b, norm) for a, b in pairwise(channels)))

    def forward(self, bins: Tensor, valid: Tensor | None = None) -> Tensor:
        """Applies them to (R, o, o, C).

        Args:
            bins: The pooled bins, channels last.
            valid: (R,) bool, the rows that enter a batch norm's statistics in training; all by
                default.
        """
        x = bins.permute(0, 3, 1, 2)
        for block in self:
            for layer in block:  # type: ignore[attr-defined]
                if valid is not None and isinstance(layer, _BatchNorm):
                    x = masked_batch_norm(layer, x, valid)
                else:
                    x = layer(x)
        return x.permute(0, 2, 3, 1)


def _block(inputs: int, outputs: int, norm: type[nn.Module] | None) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm is None)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    layers = [conv] if norm is None else [conv, norm(outputs)]
    return nn.Sequential(*layers, nn.ReLU())
