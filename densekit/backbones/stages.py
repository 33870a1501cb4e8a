"""The stages of a ResNet of any kind: which block follows which, on what grid.

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
"""Takes input channels, `out_channels`, `drop_path`; `stride` and `dilations` unless all are 1."""


class Stage(nn.Sequential):
    """Blocks one behind the other.

    Attributes:
        recompute: Whether a training step keeps the input of each block alone, and makes what lies
            inside again in its backward.
    """

    recompute: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *S) to the shape of the last block's output."""
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for block in self:
            x = recomputed(block, x) if recompute else block(x)
        return x


class StageBuilder:
    """Builds stages, each on the grid where the one before ended.

    Args:
        channels: Of the first stage's input.
        stride: Of the first stage's input, along an axis that is not held.
        counts: Number of blocks of every stage.
        skip_downsampling: Number of the first downsamplings that each axis skips.
        output_stride: A stage that would go beyond this stride is dilated instead; None for none.
        dilate_first_block: Whether the first block of such a stage has the stage's dilation, or the
            one of the stage before, on whose grid its input lies.
        drop_path: Probability to drop the residual branch of the last block; of block l of L it is
            l / L times that.
        recompute: See `Stage`.

    Attributes:
        spec: What the last stage built gives.

    Raises:
        ValueError: If `drop_path` is no probability below 1.
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
        """Channels and strides at which the next stage begins."""
        return FeatureSpec(self.channels, held(self.stride, self.skip_downsampling))

    def build(self, make_block: MakeBlock, out_channels: int, step: int) -> Stage:
        """The next stage.

        Args:
            make_block: Makes one of its blocks.
            out_channels: Of every block.
            step: Its stride, 1 or 2; along a held axis it may be less.
        """
        entry = self.dilation
        if self.output_stride is not None and self.stride * step > self.output_stride:
            step, self.dilation = 1, self.dilation * step
        if self.dilate_first_block:
            entry = self.dilation
        before, self.stride = self.stride, self.stride * step
        first: dict[str, Any] = {"stride": axis_steps(before, self.stride, self.skip_downsampling)}
        others: dict[str, Any] = {}
        if self.dilation > 1:
            first["dilations"] = entry, self.dilation
            others["dilations"] = self.dilation, self.dilation
        blocks: list[nn.Module] = []
        for rate in self.drop_rates.pop(0):
            place = others if blocks else first
            block = make_block(self.channels, out_channels=out_channels, drop_path=rate, **place)
            blocks.append(block)
            self.channels = out_channels
        stage = Stage(*blocks)
        stage.recompute = self.recompute
        return stage


def held(stride: int, skips: Sequence[int]) -> tuple[int, ...]:
    """The stride of each axis where a network without held axes has `stride`, a power of 2."""
    return tuple(max(1, stride >> count) for count in skips)


def axis_steps(before: int, after: int, skips: Sequence[int]) -> tuple[int, ...]:
    """What each axis is divided by between two strides."""
    pairs = zip(held(before, skips), held(after, skips), strict=True)
    return tuple(fine // coarse for coarse, fine in pairs)


def initialise(network: nn.Module) -> None:
    """Paper: Delving Deep into Rectifiers, section 2.2, by the number of outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _linear_decay(drop_path: float, counts: Sequence[int]) -> list[list[float]]:
    """The drop rate of every block, a list a stage."""
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path: got {drop_path}, accepted is 0 or more and less than 1")
    numbers = iter(range(1, sum(counts) + 1))
    return [[drop_path * next(numbers) / sum(counts) for _ in range(count)] for count in counts]
