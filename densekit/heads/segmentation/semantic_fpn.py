"""Semantic FPN: every level of the pyramid brought to the finest one's size, and summed.

Shape letters: B images, C channels, K classes, s the sizes of the finest level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from densekit.heads.segmentation.aspp import conv_norm_relu
from densekit.heads.segmentation.base import Segmentation
from densekit.layers import CONV, Layers
from densekit.ops.interpolation import resize_linear
from densekit.types import Features, FeatureSpec


class SemanticFPN(Segmentation):
    """The semantic branch of Panoptic FPN, on the pyramid that an instance head reads too.

    A level is convolved (3x3, group norm, ReLU) and doubled once for each level between it and the
    finest; the finest is convolved alone. The sum becomes logits at the finest level's stride, 4.
    With the default `align_corners=False` it is detectron2's `SemSegFPNHead`, with True smp's FPN
    without its dropout.
    Paper: Panoptic Feature Pyramid Networks, section 3 and figure 3.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        levels: Levels of the pyramid, finest first.
        channels: Channels of every convolution.
        norm: Norm of the layers, see `densekit.layers.Layers`.
        settings: See `Segmentation`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = ("p2", "p3", "p4", "p5"),
        channels: int = 128,
        norm: str = "group",
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.levels = tuple(levels)
        self.reads = ("c0", *self.levels)
        finest = specs[self.levels[0]]
        make = Layers(finest.spatial_dims, norm)
        self._finer = {
            name: _sizes_between([(n, specs[n].stride) for n in self.levels[: i + 1]])
            for i, name in enumerate(self.levels)
        }
        self.branches = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    conv_norm_relu(make, channels if step else specs[name].channels, channels, 3)
                    for step in range(max(1, len(finer)))
                )
                for name, finer in self._finer.items()
            }
        )
        self.classifier = CONV[make.spatial_dims](channels, num_classes, 1)

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the size of the finest level."""
        joined: Tensor | None = None
        for name in self.levels:
            branch = self._branch(name, features)  # (B, C, *s)
            joined = branch if joined is None else joined + branch
        logits: Tensor = self.classifier(joined)
        return logits

    def _branch(self, name: str, features: Features) -> Tensor:
        """A level, (B, C, *s)."""
        x = features[name]
        finer = self._finer[name]
        for step, layers in enumerate(self.branches[name].children()):
            x = layers(x)
            if finer:
                sides = features[finer[step]].shape[2:]
                x = resize_linear(x, sides, align_corners=self.align_corners)
        return x


def _sizes_between(strides: Sequence[tuple[str, tuple[int, ...]]]) -> list[str]:
    """The sizes through which a level grows: a level of each, the finest one last.

    Args:
        strides: Levels and their strides, finest first; the last one is the level that grows.
            Levels of a dilated backbone share theirs.
    """
    of_stride: dict[tuple[int, ...], str] = {}
    for name, stride in strides:
        of_stride.setdefault(stride, name)
    of_stride.pop(strides[-1][1])
    return list(of_stride.values())[::-1]
