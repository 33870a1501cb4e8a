"""Path aggregation network: a feature pyramid with a second path, from fine levels to coarse ones.

Liu et al., "Path Aggregation Network for Instance Segmentation", 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from densekit.layers import Layers
from densekit.necks.base import Neck
from densekit.necks.fpn import FPN
from densekit.types import Features, FeatureSpec, Specs


class PAFPN(Neck):
    """Feature pyramid whose levels also get what finer ones see, by few convolutions.

    The path begins at the finest level that is read, so that a level depends on which others are.
    On the way up each level is the ReLU of a 3x3 convolution of its sum with the one below, which
    passes a convolution with a stride and a ReLU first.

    Args:
        features: Specs of the backbone's levels.
        reads: Levels that the heads read; without a p-level among them there are no layers.
        out_channels: Channels of every p-level.
        extra: Levels beyond the backbone's deepest, see `FPN`.
        norm: Norm after every convolution but the extra levels', see `densekit.layers.Layers`;
            None, as published, if they have biases.
        norm_eps: Added to the norm's variance.

    Attributes:
        size_divisor: Largest stride of the backbone's levels that it reads.

    Raises:
        ValueError: A level is unknown, or a setting is not accepted.
    """

    def __init__(
        self,
        features: Specs,
        reads: Iterable[str] = (),
        *,
        out_channels: int = 256,
        extra: str = "pool",
        norm: str | None = "batch",
        norm_eps: float = 1e-5,
    ) -> None:
        def pyramid(*levels: str) -> FPN:
            return FPN(
                features,
                levels,
                out_channels=out_channels,
                extra=extra,
                norm=norm,
                norm_eps=norm_eps,
            )

        specs = pyramid().specs
        super().__init__(features, reads, specs)
        names = list(specs)
        wanted = [names.index(level) for level in self.levels]
        self.path = tuple(names[min(wanted) : max(wanted) + 1]) if wanted else ()
        self.pyramid = pyramid(*self.path)
        self.reads, self.size_divisor = self.pyramid.reads, self.pyramid.size_divisor
        self.up, self.output = nn.ModuleDict(), nn.ModuleDict()
        for below, level in zip(self.path, self.path[1:], strict=False):
            make = Layers(specs[level].spatial_dims, norm, norm_eps)
            stride = _steps(specs[below], specs[level])
            self.up[level] = make.conv_norm(out_channels, out_channels, 3, stride=stride)
            self.output[level] = make.conv_norm(out_channels, out_channels, 3)
        for module in [*self.up.modules(), *self.output.modules()]:
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Features) -> Features:
        """Returns the given levels and the p-levels, (B, out_channels, *S / stride)."""
        levels = dict(self.pyramid(features))
        for below, level in zip(self.path, self.path[1:], strict=False):
            x = levels[level] + self.up[level](levels[below]).relu()
            levels[level] = self.output[level](x).relu()
        return {**features, **{level: levels[level] for level in self.levels}}


def _steps(below: FeatureSpec, above: FeatureSpec) -> tuple[int, ...]:
    """Stride of the convolution from one level to the next along each axis."""
    return tuple(b // a for a, b in zip(below.stride, above.stride, strict=True))
