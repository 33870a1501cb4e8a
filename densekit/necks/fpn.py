"""Feature pyramid network: brings semantics of deep levels to the resolution of shallow ones.

Papers: Feature Pyramid Networks for Object Detection, section 3; Focal Loss for Dense Object
Detection, section 4 (convolved extra levels).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit._names import choose
from densekit.layers import CONV, FixedUpsampledConv, Layers, fixed_conv, max_pool
from densekit.necks.base import Neck
from densekit.ops.upsampled_conv import CONV as CONV_FUNCTION
from densekit.ops.upsampled_conv import upsampled_conv
from densekit.types import Features, FeatureSpec, Specs

SHALLOWEST = 2
"""There is no p1: a pyramid on the stem's level would cost more than the backbone."""


class Subsample(nn.Module):
    """Takes every second value along each axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *S) to (B, C, *S / 2), rounded up."""
        return max_pool(x, 1, 2)


@dataclass(frozen=True)
class Extra:
    """Levels beyond the deepest of the backbone, each at twice the stride of the one before.

    Attributes:
        count: Number of levels.
        layer: Makes a level's layer from spatial dimensions, input and output channels.
        from_backbone: Whether the input of the first is the backbone's deepest level, or the
            pyramid's.
        relu: Whether each further one takes the ReLU of the one before.
    """

    count: int
    layer: Callable[[int, int, int], nn.Module]
    from_backbone: bool = False
    relu: bool = True


def _subsample(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
    return Subsample()


def _convolution(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
    return Layers(spatial_dims, norm=None).conv(in_channels, out_channels, 3, stride=2)


EXTRAS = {
    "none": Extra(0, _subsample),
    "pool": Extra(1, _subsample),
    "conv": Extra(2, _convolution),
    "conv_backbone": Extra(2, _convolution, from_backbone=True),
    "conv_backbone_linear": Extra(2, _convolution, from_backbone=True, relu=False),
}


class FPN(Neck):
    """Feature pyramid network: adds the p-levels that are read, with only the layers they need.

    Neighbouring levels of equal stride, as in a dilated backbone, are added without resizing.

    Args:
        features: Specs of the backbone's levels.
        reads: Levels that the heads read; without a p-level among them there are no layers.
        out_channels: Channels of every p-level.
        extra: Levels beyond the backbone's deepest, p6 and p7 if that is c5: "none"; "pool", p6 by
            subsampling p5; "conv", p6 and p7 by convolution of p5 (RetinaNet V1 of torchvision);
            "conv_backbone", of c5 (RetinaNet as published, V2, detectron2); "conv_backbone_linear",
            of c5 without the ReLU between p6 and p7 (mmdetection).
        norm: Norm after every convolution but the extra levels', see `densekit.layers.Layers`;
            with None, as published, they have biases. torchvision's V2 detectors have "batch".
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
        norm: str | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        rule, deep = choose("extra", extra, EXTRAS), _deep_levels(features)
        super().__init__(features, reads, _pyramid(deep, out_channels, rule.count))
        top = max(deep)
        wanted = [int(level[1:]) for level in self.levels]
        beyond = range(top + 1, max(wanted, default=top) + 1)  # each is computed from the last
        source = top if beyond and not rule.from_backbone else None
        outputs = [n for n in deep if n in wanted or n == source]
        laterals = [n for n in deep if outputs and n >= outputs[0]]
        self.reads = tuple(f"c{n}" for n in deep if n in laterals or (beyond and n == top))
        strides = [max(features[level].stride) for level in self.reads]
        self.size_divisor = max(strides, default=1)
        self.extra_relu = rule.relu
        self.extra_source = f"c{top}" if rule.from_backbone else f"p{top}"
        self.finer_than_above = _finer_than_above(deep)

        self.is_split = norm is None and _splits(deep, laterals, out_channels)
        self.fixed_split: FixedSplit | None = None

        make = Layers(deep[top].spatial_dims, norm, norm_eps)
        self.lateral = nn.ModuleDict(
            {f"c{n}": make.conv_norm(deep[n].channels, out_channels, 1) for n in laterals}
        )
        self.output = nn.ModuleDict(
            {f"p{n}": make.conv_norm(out_channels, out_channels, 3) for n in outputs}
        )
        self.extra = nn.ModuleDict()
        channels = deep[top].channels if rule.from_backbone else out_channels
        for n in beyond:
            self.extra[f"p{n}"] = rule.layer(make.spatial_dims, channels, out_channels)
            channels = out_channels
        _initialise(self)

    def forward(self, features: Features) -> Features:
        """Returns the given levels and the p-levels, (B, out_channels, *S / stride)."""
        levels = dict(features)
        merged = self._top_down(features)
        for level, x in merged.items():
            if (name := f"p{level[1:]}") in self.output:
                levels[name] = self.output[name](x)
        if self.is_split:
            finest, above, *_ = self.lateral
            split = self.fixed_split or self._split_output
            levels[f"p{finest[1:]}"] = split(features[finest], merged[above])
        source = self.extra_source
        for level, layer in self.extra.items():
            x = levels[source]
            levels[level] = layer(F.relu(x) if source in self.extra and self.extra_relu else x)
            source = level
        return {**features, **{level: levels[level] for level in self.levels}}

    def _top_down(self, features: Features) -> Features:
        """Each level's lateral projection plus the resized sum of the level above.

        The deepest comes first; the finest is left out if it is split.
        """
        merged: Features = {}
        above: Tensor | None = None
        for level in reversed(list(self.lateral)[self.is_split :]):
            x = self.lateral[level](features[level])  # (B, out_channels, *S / stride)
            if above is not None:
                if level in self.finer_than_above:
                    above = F.interpolate(above, size=x.shape[2:], mode="nearest")
                x = x + above
            above = merged[level] = x
        return merged

    def _split_output(self, x: Tensor, above: Tensor) -> Tensor:
        """The output of the finest level, from its two addends separately.

        All maps up to the output are linear, so lateral projection and 3x3 convolution are merged
        into one 3x3 convolution of the backbone's channels: 64 instead of 256 on a basic ResNet's
        c2. The other addend is convolved as in `upsampled_conv`. Together that is 0.7 of the
        multiplications.

        Args:
            x: (B, C, *S) map of the backbone.
            above: (B, out_channels, *S / 2) sum of the level above.
        """
        lateral, output = self._split_layers()
        # A constant can be added before the upsampling instead of after it.
        bias = lateral.bias.to(above.dtype).view(-1, *[1] * (x.ndim - 2))
        y = CONV_FUNCTION[x.ndim - 2](x, _merged(lateral, output), output.bias, padding=1)
        return y + upsampled_conv(above + bias, output.weight, x.shape[2:])

    def _split_layers(self) -> tuple[Any, Any]:
        """The lateral projection and the output convolution of the finest level."""
        finest = next(iter(self.lateral))
        projection: Any = self.lateral[finest]
        convolution: Any = self.output[f"p{finest[1:]}"]
        return projection[0], convolution[0]  # without norms

    def for_inference(self) -> FPN:
        """Returns an equal neck whose weights no longer change; see `fold`."""
        fixed = copy.deepcopy(self)
        if self.is_split:
            fixed.fixed_split = FixedSplit(*self._split_layers())
        return fixed


class FixedSplit(nn.Module):
    """The output of the finest level from its two addends, with weights prepared once.

    Args:
        lateral: Its projection, with weights that no longer change.
        output: Its 3x3 convolution, likewise.
    """

    bias: Tensor

    def __init__(self, lateral: Any, output: Any) -> None:
        super().__init__()
        dims = output.weight.ndim - 2
        self.lateral = fixed_conv(CONV[dims], _merged(lateral, output), output.bias)
        self.upsampled = FixedUpsampledConv(output.weight, None, [2] * dims)
        self.register_buffer("bias", lateral.bias.view(-1, *[1] * dims))

    def forward(self, x: Tensor, above: Tensor) -> Tensor:
        """See `FPN._split_output`."""
        y: Tensor = self.lateral(x) + self.upsampled(above + self.bias, x.shape[2:])
        return y


def _merged(lateral: Any, output: Any) -> Tensor:
    """Weight of the convolution that equals the projection followed by the convolution."""
    return torch.einsum("om...,mc->oc...", output.weight, lateral.weight.flatten(1))


def _splits(deep: dict[int, FeatureSpec], laterals: Sequence[int], out_channels: int) -> bool:
    """Whether the finest level's output is cheaper from its two addends than from their sum."""
    if len(laterals) < 2:
        return False
    finest, above = (deep[n] for n in laterals[:2])
    doubled = all(b == 2 * a for a, b in zip(finest.stride, above.stride, strict=True))
    return doubled and finest.channels / out_channels + (2 / 3) ** finest.spatial_dims < 1


def _deep_levels(features: Specs) -> dict[int, FeatureSpec]:
    """The backbone's levels below a pyramid, by number: c2 and deeper."""
    levels = {int(name[1:]): spec for name, spec in features.items() if name[0] == "c"}
    deep = {n: levels[n] for n in sorted(levels) if n >= SHALLOWEST}
    if not deep:
        raise ValueError(
            f"FPN: expected a backbone with a level c2 or deeper, got {', '.join(features)}"
        )
    return deep


def _pyramid(deep: dict[int, FeatureSpec], channels: int, extras: int) -> dict[str, FeatureSpec]:
    """Specs of every p-level that could be built, whether or not it is read."""
    specs = {f"p{n}": FeatureSpec(channels, spec.stride) for n, spec in deep.items()}
    top = max(deep)
    for number in range(1, extras + 1):
        stride = tuple(step * 2**number for step in deep[top].stride)
        specs[f"p{top + number}"] = FeatureSpec(channels, stride)
    return specs


def _finer_than_above(deep: dict[int, FeatureSpec]) -> set[str]:
    """The levels whose deeper neighbour must be upsampled."""
    numbers = list(deep)
    pairs = zip(numbers, numbers[1:], strict=False)
    return {f"c{n}" for n, above in pairs if deep[n].stride != deep[above].stride}


def _initialise(network: nn.Module) -> None:
    """Initialises weights uniformly with variance 1 / fan-in, as no ReLU follows; zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
