"""ResNet of any depth, width, number of dimensions and output stride.

Its 2-D state dict is torchvision's, key for key, without `fc.*` and trimmed stages.

Papers: Deep Residual Learning for Image Recognition; Aggregated Residual Transformations for Deep
Neural Networks (ResNeXt); Wide Residual Networks; Rethinking Atrous Convolution, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike

import torch.nn.functional as F
from torch import Tensor, nn

from densekit._names import choose
from densekit.backbones.blocks import BasicBlock, Block, Bottleneck
from densekit.backbones.shortcuts import projection
from densekit.backbones.staged import Staged
from densekit.backbones.stages import StageBuilder, axis_steps, axis_strides, initialise
from densekit.backbones.stem import STEMS, stem_convolutions
from densekit.layers import Layers, conv_norm
from densekit.types import FeatureSpec

BLOCKS_BY_DEPTH = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
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
"""Depth, groups and width per group to the names of networks with weights in torchvision."""


class ResNet(Staged):
    """ResNet, ResNeXt or Wide ResNet without its classifier.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        groups: Groups of the bottlenecks' 3x3 convolutions (ResNeXt: 32 or 64).
        width_per_group: Channels per group in c2; 64 is the plain ResNet, 128 the wide one.
        width: Channels of the stem; all others scale with it. 64 is the ResNet of the paper; 16 to
            32 suit volumes, whose maps have one more axis.
        stem_width: Channels of the stem alone, if others than `width`.
        in_channels: Channels of the image.
        spatial_dims: 1 for series, 2 for 2-D images, 3 for volumes.
        stem: "imagenet" (7x7 of stride 2 and max-pool: stages at strides 4, 8, 16, 32), "caffe"
            (the same, whose pooling windows begin at the first pixel, as in weights trained with
            Caffe), "deep" (three 3x3 in place of the 7x7: ResNet-C, mmsegmentation's V1c), "half"
            (3x3 of stride 2: 2, 4, 8, 16) or "full" (3x3 of stride 1: 1, 2, 4, 8; small images and
            volumes).
        output_stride: A stage that would exceed this stride is dilated instead.
        skip_downsampling: Number of downsamplings that each axis skips, the first ones, for volumes
            with distant slices: with (2, 0, 0) and the imagenet stem, z is halved three times, y
            and x five times.
        dilate_first_block: Whether the first block of a stage whose stride became dilation has the
            stage's dilation, as in smp's encoders, or that of the stage before, which fits the grid
            of its input, as in torchvision.
        dilate_second_conv: Whether both convolutions of a basic block are dilated, or only the
            first, as in mmsegmentation.
        multi_grid: Dilation of each block of the last stage, in place of the dilation that follows
            from `output_stride`: (1, 2, 4) in mmsegmentation's DeepLab of stride 16.
        stride_in_1x1: Whether a bottleneck's stride is in its first 1x1 convolution, as in MSRA's
            weights, or in the 3x3.
        norm: "batch", "frozen" (constant batch norm), "group", "instance" or "sync".
        norm_eps: Added to the norm's variance.
        residual: Whether blocks have shortcuts. Without them it is the plain network of the paper's
            section 4.1, for comparison; it takes the weights of plain networks only.
        drop_path: Probability of dropping the last block's residual branch in a training step, per
            image; block l of L has l / L of it (stochastic depth).
        activation_checkpointing: Whether backward recomputes the maps inside each block instead of
            keeping them: same results, less memory, more time.
        freeze_stages: Number of levels, from c1 on, whose weights and statistics are kept fixed; 2
            is customary for detection.
        zero_init_residual: Whether every residual branch is initialised to zero.
        weights: Name of torchvision's weights ("IMAGENET1K_V2"), path of a .pth, .pt, .th, .ckpt or
            .safetensors file, URL with its hash (`resnet50-0676ba61.pth`, or `#sha256=...` at its
            end), `torchvision:NAME`, `timm:NAME`, or `pip:PACKAGE` (`densekit backbones` lists
            them). They are adapted to `in_channels` and `spatial_dims`.

    Raises:
        ValueError: A setting is not accepted, or the weights do not fit.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        groups: int = 1,
        width_per_group: int = 64,
        width: int = 64,
        stem_width: int | None = None,
        in_channels: int = 3,
        spatial_dims: int = 2,
        stem: str = "imagenet",
        output_stride: int = 32,
        skip_downsampling: Sequence[int] | None = None,
        dilate_first_block: bool = False,
        dilate_second_conv: bool = True,
        multi_grid: Sequence[int] | None = None,
        stride_in_1x1: bool = False,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        residual: bool = True,
        drop_path: float = 0.0,
        activation_checkpointing: bool = False,
        freeze_stages: int = 0,
        zero_init_residual: bool = False,
        weights: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.stem = choose("stem", stem, STEMS)
        block, expansion = _block(depth, groups, width_per_group, stride_in_1x1, dilate_second_conv)
        make = Layers(spatial_dims, norm, norm_eps)
        _check_output_stride(output_stride, self.stem.reduction)
        first = width if stem_width is None else stem_width
        _check_width(width, first, groups * width_per_group)
        _check_residual(residual, norm, drop_path, zero_init_residual)
        skips = _checked_skips(skip_downsampling, spatial_dims)

        first_stride = axis_strides(self.stem.stride, skips)
        self.conv1 = stem_convolutions(make, self.stem, in_channels, first, first_stride)
        self.bn1 = make.normalisation(first)
        self.pool_stride = axis_steps(self.stem.stride, self.stem.reduction, skips)
        self.features = {
            "c0": FeatureSpec(in_channels, (1,) * spatial_dims),
            "c1": FeatureSpec(first, first_stride),
        }
        counts, shortcut = BLOCKS_BY_DEPTH[depth], projection if residual else None
        builder = StageBuilder(
            first,
            self.stem.reduction,
            counts,
            skip_downsampling=skips,
            output_stride=output_stride,
            dilate_first_block=dilate_first_block,
            drop_path=drop_path,
            recompute=activation_checkpointing,
        )
        for number in range(len(counts)):
            inner = 2**number * width_per_group * groups * width // 64
            make_block = partial(block, make, width=inner, shortcut=shortcut)
            out_channels = 2**number * width * expansion
            grid = multi_grid if number == len(counts) - 1 else None
            stage = builder.build(make_block, out_channels, 1 if number == 0 else 2, grid)
            self.add_stage(stage, builder.spec)

        initialise(self)
        if zero_init_residual:
            _zero_residual_branches(self)
        self.is_residual = residual
        self.freeze(freeze_stages)
        if weights is not None:
            is_known = width == first == 64 and residual
            named = (depth, groups, width_per_group) if is_known else None
            self.load(weights, TORCHVISION_NAMES.get(named) if named else None)

    def make_stem(self, x: Tensor) -> Tensor:
        """Maps an image (B, C, *S) to c1, (B, stem_width, *S / stem.stride)."""
        layers = list(self.conv1) if isinstance(self.conv1, nn.Sequential) else [self.conv1]
        for layer in layers[:-1]:
            x = layer(x)
        return F.relu_(conv_norm(layers[-1], self.bn1, x))

    def enter_stages(self, x: Tensor) -> Tensor:
        """Applies the stem's max-pool to c1, if it has one."""
        return self.stem.pool(x, 3, self.pool_stride) if self.stem.pool else x


def _block(
    depth: int, groups: int, width_per_group: int, stride_in_1x1: bool, dilate_second_conv: bool
) -> tuple[Callable[..., Block], int]:
    """The constructor of the blocks of a depth, and their expansion."""
    if depth not in BLOCKS_BY_DEPTH:
        accepted = ", ".join(map(str, BLOCKS_BY_DEPTH))
        raise ValueError(f"depth: expected one of {accepted}, got {depth}")
    if depth >= 50:
        bottleneck = partial(Bottleneck, groups=groups, stride_in_1x1=stride_in_1x1)
        return bottleneck, Bottleneck.expansion
    if (groups, width_per_group, stride_in_1x1) != (1, 64, False):
        raise ValueError(
            "groups, width_per_group, stride_in_1x1: expected the defaults, as ResNet-"
            f"{depth} has no bottlenecks, got {groups}, {width_per_group} and {stride_in_1x1}; use"
            " depth 50, 101 or 152"
        )
    return partial(BasicBlock, dilate_second=dilate_second_conv), BasicBlock.expansion


def _check_output_stride(output_stride: int, stem_reduction: int) -> None:
    accepted = [2**power for power in range(6) if 2**power >= stem_reduction]
    if output_stride not in accepted:
        names = ", ".join(map(str, accepted))
        raise ValueError(
            f"output_stride: expected one of {names} with this stem, got {output_stride}"
        )


def _checked_skips(skips: Sequence[int] | None, spatial_dims: int) -> tuple[int, ...]:
    checked = (0,) * spatial_dims if skips is None else tuple(int(count) for count in skips)
    if len(checked) != spatial_dims or min(checked) < 0:
        raise ValueError(
            f"skip_downsampling: expected {spatial_dims} numbers of at least 0, one per axis, got"
            f" {skips!r}"
        )
    return checked


def _check_width(width: int, first: int, inner: int) -> None:
    if width < 1 or inner * width % 64:
        raise ValueError(
            "width: expected a positive number that gives every group a whole number of channels,"
            f" such as 32, got {width}"
        )
    if first < 1:
        raise ValueError(f"stem_width: expected a positive number, got {first}")


def _check_residual(residual: bool, norm: str, drop_path: float, zero_init: bool) -> None:
    if not residual and (drop_path or zero_init):
        raise ValueError(
            "drop_path, zero_init_residual: expected 0 and false with residual=False, which has no"
            f" residual branch, got {drop_path} and {zero_init}"
        )
    if zero_init and norm == "frozen":
        raise ValueError(
            "zero_init_residual: expected false with a frozen norm, which would stay zero, got"
            " true; use another norm"
        )


def _zero_residual_branches(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.get_parameter(f"{module.last_norm}.weight"))
