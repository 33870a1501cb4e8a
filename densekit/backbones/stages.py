"""Builder of ResNet stages: strides, dilations and drop rates of their blocks.

Paper: Deep Networks with Stochastic Depth, section 3 (linear decay).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekit.backbones.recompute import recomputed
from densekit.types import FeatureSpec

MakeBlock = Callable[..., nn.Module]
"""Takes input channels, `out_channels`, `drop_path`, `stride`, and `dilations` unless all are 1."""


class Stage(nn.Sequential):
    """A sequence of blocks.

    Attributes:
        recompute: Whether a training step keeps only the input of each block and recomputes the
            maps inside it in backward.
    """

    recompute: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *S) to the shape of the last block's output."""
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for block in self:
            x = recomputed(block, x) if recompute else block(x)
        return x


class StageBuilder:
    """Builds consecutive stages.

    Args:
        channels: Channels of the first stage's input.
        stride: Stride of the first stage's input, along an axis that skips no downsampling.
        counts: Number of blocks of every stage.
        skip_downsampling: Number of downsamplings that each axis skips, the first ones.
        output_stride: A stage that would exceed this stride is dilated instead; None for no limit.
        dilate_first_block: Whether the first block of such a stage has the stage's dilation, or
            that of the stage before, which fits the grid of its input.
        drop_path: Probability of dropping the residual branch of the last block; block l of L has
            l / L of it.
        recompute: See `Stage`.

    Raises:
        ValueError: `drop_path` is not in [0, 1).
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        counts: Sequence[int],
        *,
        skip_downsampling: Sequence[int] = (0, 0),
        output_stride: int | None = None,
        dilate_first_block: bool = False,
        drop_path: float = 0.0,
        recompute: bool = False,
    ) -> None:
        self.drop_rates = _linear_decay(drop_path, counts)
        self.channels, self.stride, self.dilation = channels, stride, 1
        self.skip_downsampling, self.output_stride = tuple(skip_downsampling), output_stride
        self.dilate_first_block, self.recompute = dilate_first_block, recompute

    @property
    def spec(self) -> FeatureSpec:
        """Channels and strides of the output of the last stage built."""
        return FeatureSpec(self.channels, axis_strides(self.stride, self.skip_downsampling))

    def build(
        self,
        make_block: MakeBlock,
        out_channels: int,
        step: int,
        multi_grid: Sequence[int] | None = None,
    ) -> Stage:
        """Builds the next stage.

        Args:
            make_block: Makes one of its blocks.
            out_channels: Output channels of every block.
            step: Stride of the stage, 1 or 2; axes that skip a downsampling have 1.
            multi_grid: Dilation of each block, in place of the one that replaces the stride.

        Raises:
            ValueError: `multi_grid` has not one positive number per block.
        """
        rates = self.drop_rates.pop(0)
        entry = self.dilation
        if self.output_stride is not None and self.stride * step > self.output_stride:
            step, self.dilation = 1, self.dilation * step
        if self.dilate_first_block:
            entry = self.dilation
        before, self.stride = self.stride, self.stride * step
        settings: dict[str, Any] = {
            "stride": axis_steps(before, self.stride, self.skip_downsampling)
        }
        dilations = [(entry, self.dilation)] + [(self.dilation, self.dilation)] * (len(rates) - 1)
        if multi_grid is not None:
            dilations = _checked_grid(multi_grid, len(rates))
        blocks: list[nn.Module] = []
        for rate, pair in zip(rates, dilations, strict=True):
            if pair != (1, 1):
                settings["dilations"] = pair
            block = make_block(self.channels, out_channels=out_channels, drop_path=rate, **settings)
            blocks.append(block)
            self.channels, settings = out_channels, {}
        stage = Stage(*blocks)
        stage.recompute = self.recompute
        return stage


def axis_strides(stride: int, skips: Sequence[int]) -> tuple[int, ...]:
    """Returns the stride along each axis, `stride` less the skipped halvings; a power of 2."""
    return tuple(max(1, stride >> count) for count in skips)


def axis_steps(before: int, after: int, skips: Sequence[int]) -> tuple[int, ...]:
    """Returns the factor between two strides along each axis."""
    pairs = zip(axis_strides(before, skips), axis_strides(after, skips), strict=True)
    return tuple(fine // coarse for coarse, fine in pairs)


def initialise(network: nn.Module) -> None:
    """Initialises convolutions by fan-out. Paper: Delving Deep into Rectifiers, section 2.2."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _checked_grid(multi_grid: Sequence[int], count: int) -> list[tuple[int, int]]:
    """The dilations of both convolutions of every block."""
    if len(multi_grid) != count or min(multi_grid) < 1:
        raise ValueError(
            f"multi_grid: expected {count} positive numbers, one per block of the last stage, got"
            f" {list(multi_grid)}"
        )
    return [(int(dilation), int(dilation)) for dilation in multi_grid]


def _linear_decay(drop_path: float, counts: Sequence[int]) -> list[list[float]]:
    """The drop rate of every block, one list per stage."""
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path: expected a number in [0, 1), got {drop_path}")
    numbers = iter(range(1, sum(counts) + 1))
    return [[drop_path * next(numbers) / sum(counts) for _ in range(count)] for count in counts]
