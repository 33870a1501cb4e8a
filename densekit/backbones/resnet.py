"""One ResNet for every depth, width, dimension and output stride.

Its 2-D state dict is torchvision's, key for key, without `fc.*` and trimmed stages.

Papers: Deep Residual Learning for Image Recognition; Aggregated Residual Transformations for Deep
Neural Networks (ResNeXt); Wide Residual Networks; Rethinking Atrous Convolution, section 3.1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike

import torch.nn.functional as F
from torch import Tensor, nn

from densekit._names import choose, unknown
from densekit.backbones.base import Backbone
from densekit.backbones.blocks import BasicBlock, Block, Bottleneck
from densekit.backbones.stem import STEMS
from densekit.backbones.weights import load_weights, read_weights
from densekit.layers import Layers, conv_norm, max_pool
from densekit.types import Features, FeatureSpec

log = logging.getLogger(__name__)

BLOCKS_BY_DEPTH = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
STAGES = {"c2": "layer1", "c3": "layer2", "c4": "layer3", "c5": "layer4"}
MODULES = {"c1": ("conv1", "bn1"), **{level: (name,) for level, name in STAGES.items()}}
"""Names of the modules that make each level."""

TORCHVISION_NAMES = {
    (18, 1, 64): "resnet18",
    (34, 1, 64): "resnet34",
    (50, 1, 64): "resnet50",
    (101, 1, 64): "resnet101",
    (152, 1, 64): "resnet152",
    (50, 32, 4): "resnext50_32x4d",
    (101, 32, 8): "resnext101_32x8d",
    (101, 64, 4): "resnext101_64x4d",
    (50, 1, 128): "wide_resnet50_2",
    (101, 1, 128): "wide_resnet101_2",
}
"""Depth, groups and width per group of the networks torchvision has weights for."""


class ResNet(Backbone):
    """ResNet, ResNeXt or Wide ResNet without its classifier.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        groups: Groups of the bottlenecks' 3x3 convolutions (ResNeXt: 32 or 64).
        width_per_group: Channels a group has in c2; 64 is the plain ResNet, 128 the wide one.
        width: Channels of the stem; all others scale with it. 64 is the ResNet of the paper, 16 to
            32 are for volumes, whose maps have an axis more.
        in_channels: Channels of the image.
        spatial_dims: 1 for series, 2 for pictures, 3 for volumes.
        stem: "imagenet" (7x7 of stride 2 and max-pool: stages at strides 4, 8, 16, 32), "half" (3x3
            of stride 2: 2, 4, 8, 16) or "full" (3x3 of stride 1: 1, 2, 4, 8; small pictures and
            volumes).
        output_stride: A stage that would go beyond this stride is dilated instead.
        hold: Number of the first halvings that each axis sits out, for volumes whose slices lie far
            apart: with (2, 0, 0) and the imagenet stem, z is halved three times and y and x five.
        dilate_first_block: Whether the first block of a stage whose stride became dilation has the
            stage's dilation, as in smp's encoders, or, on the grid it is given, the one of the
            stage before, as in torchvision's.
        stride_in_1x1: Whether a bottleneck's stride is in its first 1x1 convolution, as weights
            made by MSRA need, or in the 3x3.
        norm: "batch", "frozen" (constant batch norm), "group", "instance" or "sync".
        norm_eps: Added to the norm's variance.
        freeze_stages: Number of levels, from c1 on, whose weights and statistics stay as they are;
            2 is customary for detection.
        zero_init_residual: Whether every residual branch begins as zero.
        weights: Name of torchvision's weights ("IMAGENET1K_V2"), path of a .pth, .pt, .ckpt or
            .safetensors file, or URL with its hash (`resnet50-0676ba61.pth`, or `#sha256=...` at
            its end). They are adapted to `in_channels` and `spatial_dims`.

    Raises:
        ValueError: If a setting is not among the accepted ones, or the weights do not fit.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        groups: int = 1,
        width_per_group: int = 64,
        width: int = 64,
        in_channels: int = 3,
        spatial_dims: int = 2,
        stem: str = "imagenet",
        output_stride: int = 32,
        hold: Sequence[int] | None = None,
        dilate_first_block: bool = False,
        stride_in_1x1: bool = False,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        freeze_stages: int = 0,
        zero_init_residual: bool = False,
        weights: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.stem = choose("stem", stem, STEMS)
        self.freeze_stages = freeze_stages
        block, expansion = _block(depth, groups, width_per_group, stride_in_1x1)
        make = Layers(spatial_dims, norm, norm_eps)
        _check_output_stride(output_stride, self.stem.reduction)
        if width < 1 or width_per_group * groups * width % 64:
            raise ValueError(
                f"width: got {width}, accepted is a positive number that leaves every group"
                " whole channels, such as 32"
            )
        if freeze_stages not in range(len(MODULES) + 1):
            raise ValueError(
                f"freeze_stages: got {freeze_stages}, accepted are 0 to {len(MODULES)}"
            )
        if zero_init_residual and norm == "frozen":
            raise ValueError("zero_init_residual: a frozen norm would stay zero; use another norm")

        held = _checked_hold(hold, spatial_dims)

        def spec(channels: int, stride: int) -> FeatureSpec:
            return FeatureSpec(channels, _held(stride, held))

        channels, stride, dilation = width, self.stem.reduction, 1
        first_stride = _held(self.stem.stride, held)
        self.conv1 = make.conv(in_channels, channels, self.stem.kernel_size, stride=first_stride)
        self.bn1 = make.normalisation(channels)
        self.pool_stride = _step(self.stem.stride, stride, held)
        self.features = {"c0": spec(in_channels, 1), "c1": spec(channels, self.stem.stride)}
        for number, (level, name) in enumerate(STAGES.items()):
            step, previous_dilation = 1 if number == 0 else 2, dilation
            if stride * step > output_stride:
                step, dilation = 1, dilation * step
            stride *= step
            count, out_channels = BLOCKS_BY_DEPTH[depth][number], 2**number * width * expansion
            inner = 2**number * width_per_group * groups * width // 64
            make_block = partial(block, make, width=inner, out_channels=out_channels)
            steps = _step(stride // step, stride, held)
            entry = dilation if dilate_first_block else previous_dilation
            first = make_block(channels, stride=steps, dilations=(entry, dilation))
            others = [
                make_block(out_channels, dilations=(dilation, dilation)) for _ in range(count - 1)
            ]
            self.add_module(name, nn.Sequential(first, *others))
            self.features[level] = spec(out_channels, stride)
            channels = out_channels

        _initialise(self, zero_init_residual)
        if weights is not None:
            named = (depth, groups, width_per_group) if width == 64 else None
            architecture = TORCHVISION_NAMES.get(named) if named else None
            state = read_weights(weights, architecture)
            load_weights(self, state, in_channels=in_channels, spatial_dims=spatial_dims)
        for module in self._frozen():
            module.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> Features:
        """Maps an image (B, C, *S) to its levels; c1 is the stem's output before the max-pool."""
        features = {"c0": x}
        x = F.relu_(conv_norm(self.conv1, self.bn1, x))  # (B, 64, *S / stem.stride)
        features["c1"] = x
        if self.stem.pool and "c2" in self.features:
            x = max_pool(x, 3, self.pool_stride)
        for level, name in STAGES.items():
            if level in self.features:
                x = self.get_submodule(name)(x)
                features[level] = x
        return features

    def trim(self, levels: Iterable[str]) -> None:
        """Drops the stages behind the deepest of the levels read."""
        levels, order = set(levels), list(self.features)
        for level in sorted(levels - set(order)):
            raise ValueError(unknown("level of the backbone", level, order))
        deepest = max((order.index(level) for level in levels), default=0)
        if deepest == 0:
            raise ValueError(f"no level of the backbone is read; it has {', '.join(order[1:])}")
        for level in order[deepest + 1 :]:
            for name in MODULES[level]:
                delattr(self, name)
            del self.features[level]
        if order[deepest + 1 :]:
            log.info("backbone trimmed of %s, which no head reads", ", ".join(order[deepest + 1 :]))

    def train(self, mode: bool = True) -> ResNet:
        """Sets the training mode, in which frozen stages still use their stored statistics."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        levels = [level for level in list(MODULES)[: self.freeze_stages] if level in self.features]
        return [self.get_submodule(name) for level in levels for name in MODULES[level]]


def _block(
    depth: int, groups: int, width_per_group: int, stride_in_1x1: bool
) -> tuple[Callable[..., Block], int]:
    """The constructor of a depth's blocks, and their expansion."""
    if depth not in BLOCKS_BY_DEPTH:
        accepted = ", ".join(map(str, BLOCKS_BY_DEPTH))
        raise ValueError(f"depth: got {depth}, accepted are {accepted}")
    if depth >= 50:
        bottleneck = partial(Bottleneck, groups=groups, stride_in_1x1=stride_in_1x1)
        return bottleneck, Bottleneck.expansion
    if (groups, width_per_group, stride_in_1x1) != (1, 64, False):
        raise ValueError(
            f"groups, width_per_group, stride_in_1x1: ResNet-{depth} has no bottlenecks to set;"
            " take a depth of 50, 101 or 152"
        )
    return BasicBlock, BasicBlock.expansion


def _check_output_stride(output_stride: int, stem_reduction: int) -> None:
    accepted = [2**power for power in range(6) if 2**power >= stem_reduction]
    if output_stride not in accepted:
        names = ", ".join(map(str, accepted))
        raise ValueError(f"output_stride: got {output_stride}, accepted with this stem are {names}")


def _checked_hold(hold: Sequence[int] | None, spatial_dims: int) -> tuple[int, ...]:
    held = (0,) * spatial_dims if hold is None else tuple(int(count) for count in hold)
    if len(held) != spatial_dims or min(held) < 0:
        raise ValueError(
            f"hold: got {hold!r}, accepted is a number of halvings, 0 or more, for each of"
            f" {spatial_dims} axes"
        )
    return held


def _held(stride: int, hold: Sequence[int]) -> tuple[int, ...]:
    """The stride of each axis where a network without held axes has `stride`, a power of 2."""
    return tuple(max(1, stride >> count) for count in hold)


def _step(before: int, after: int, hold: Sequence[int]) -> tuple[int, ...]:
    """What each axis is divided by between two strides."""
    pairs = zip(_held(before, hold), _held(after, hold), strict=True)
    return tuple(fine // coarse for coarse, fine in pairs)


def _initialise(network: nn.Module, zero_init_residual: bool) -> None:
    """Paper: Delving Deep into Rectifiers, section 2.2, by the number of outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual and isinstance(module, Block):
            nn.init.zeros_(module.get_parameter(f"{module.last_norm}.weight"))
