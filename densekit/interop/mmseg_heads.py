"""The five heads of mmsegmentation that densekit has: their settings and tensors' names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from densekit.heads import FCN, DeepLabV3, DeepLabV3Plus, PSPNet, UPerNet
from densekit.interop.mmseg_settings import WHERE, MmsegSettings

HEAD = "segmentation"
OURS = f"heads.{HEAD}"
Rules = list[tuple[str, str]]
"""Regular expressions of mmsegmentation's names, and densekit's names."""
NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class FoundHead:
    """A head: its constructor, names of tensors, and how values change.

    Attributes:
        make: The constructor, without what all heads share.
        rules: How its tensors are renamed.
        unsaid: What its tensors do not say, in words.
        changed: See `convert_tensors`.
        output_stride: Output stride of the backbone in the usual configuration.
    """

    make: partial[Any]
    rules: Rules
    unsaid: str
    changed: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    output_stride: int = 8


@dataclass(frozen=True)
class HeadTensors:
    """The tensors below `decode_head.`, and what they do not say.

    Attributes:
        tensors: Names without `decode_head.`.
        levels: Channels of the backbone's levels to their names.
        settings: See `MmsegSettings`.
    """

    tensors: Mapping[str, Tensor]
    levels: Mapping[int, str]
    settings: MmsegSettings

    def count(self, pattern: str) -> int:
        """Number of modules whose name matches an expression."""
        found = (re.match(rf"({pattern})\.", name) for name in self.tensors)
        return len({match[1] for match in found if match})

    def channels(self, module: str) -> int:
        """Output channels of a convolution with norm."""
        return len(self.tensors[f"{module}.bn.weight"])

    def level(self, weight: str) -> str:
        """The level that a convolution reads.

        Raises:
            ValueError: No level has this number of channels.
        """
        return level_of(self.tensors[weight].shape[1], f"decode_head.{weight}", self.levels)


def level_of(channels: int, name: str, levels: Mapping[int, str]) -> str:
    """The backbone's level with this number of channels.

    Raises:
        ValueError: There is none.
    """
    if channels not in levels:
        raise ValueError(
            f"{WHERE}: {name}: expected as input one level of the backbone, of"
            f" {' or '.join(map(str, levels))} channels, got {channels}"
        )
    return levels[channels]


def find_head(source: HeadTensors) -> FoundHead:
    """Recognises a head by the names of its tensors.

    Raises:
        ValueError: It is another head.
    """
    for marker, read in _READERS.items():
        if marker in source.tensors:
            return read(source)
    modules = sorted({name.split(".")[0] for name in source.tensors})
    raise ValueError(
        f"{WHERE}: expected the head of FCN, PSPNet, DeepLabV3, DeepLabV3+ or UPerNet, got one of"
        f" {', '.join(modules)}"
    )


def _convolution(theirs: str, ours: str, first: int = 0) -> Rules:
    """The names of a convolution and its norm, which we number from `first` on."""
    return [
        (rf"^decode_head\.{theirs}\.conv\.", f"{OURS}.{ours}.{first}."),
        (rf"^decode_head\.{theirs}\.bn\.", f"{OURS}.{ours}.{first + 1}."),
    ]


def _separable(theirs: str, ours: str, first: int = 0) -> Rules:
    """The names of a depthwise and a 1x1 convolution, each with a norm."""
    depthwise, pointwise = rf"{theirs}\.depthwise_conv", rf"{theirs}\.pointwise_conv"
    return [
        *_convolution(depthwise, f"{ours}.{first}"),
        (rf"^decode_head\.{pointwise}\.conv\.", f"{OURS}.{ours}.{first}.3."),
        (rf"^decode_head\.{pointwise}\.bn\.", f"{OURS}.{ours}.{first + 1}."),
    ]


def _logits(ours: str) -> Rules:
    return [(r"^decode_head\.conv_seg\.", f"{OURS}.{ours}.")]


def _fcn(source: HeadTensors) -> FoundHead:
    count = source.count(r"convs\.\d+")
    concat_input = "conv_cat.conv.weight" in source.tensors
    body = "classifier.0" if concat_input else "classifier"
    rules = [rule for n in range(count) for rule in _convolution(rf"convs\.{n}", body, 3 * n)]
    if concat_input:
        rules += _convolution("conv_cat", "classifier", 1)
    rules += _logits(f"classifier.{5 if concat_input else 3 * count + 1}")
    make = partial(
        FCN,
        level=source.level("convs.0.conv.weight"),
        channels=source.channels("convs.0"),
        num_convs=count,
        dilation=source.settings.fcn_dilation,
        concat_input=concat_input,
    )
    return FoundHead(make, rules, f"the dilation of FCN is {source.settings.fcn_dilation}")


def _pspnet(source: HeadTensors) -> FoundHead:
    make = partial(
        PSPNet,
        level=source.level("psp_modules.0.1.conv.weight"),
        channels=source.channels("bottleneck"),
        scales=source.settings.scales,
    )
    rules = [
        *_convolution(r"psp_modules\.(\d+)\.1", r"classifier.0.grids.\1"),
        *_convolution("bottleneck", "classifier.0.project"),
        *_logits("classifier.2"),
    ]
    return FoundHead(make, rules, _grids(source))


def _grids(source: HeadTensors) -> str:
    return f"the grids have {', '.join(map(str, source.settings.scales))} cells per axis"


def _upernet(source: HeadTensors) -> FoundHead:
    count = source.count(r"lateral_convs\.\d+")
    skips = [source.level(f"lateral_convs.{n}.conv.weight") for n in range(count)]
    rules = [
        *_convolution(r"psp_modules\.(\d+)\.1", r"pooling.grids.\1"),
        *_convolution("bottleneck", "pooling.project"),
        *_convolution("fpn_bottleneck", "classifier"),
        *_logits("classifier.4"),
    ]
    for number, level in enumerate(skips):
        rules += _convolution(rf"lateral_convs\.{number}", f"lateral.{level}")
        rules += _convolution(rf"fpn_convs\.{number}", f"output.{level}")
    make = partial(
        UPerNet,
        level=source.level("psp_modules.0.1.conv.weight"),
        skip_levels=skips,
        channels=source.channels("bottleneck"),
        scales=source.settings.scales,
    )
    return FoundHead(make, rules, _grids(source), output_stride=32)


def _deeplabv3(source: HeadTensors) -> FoundHead:
    make = _pyramid(DeepLabV3, source, source.channels("bottleneck"))
    count = len(make.keywords["rates"]) + 1
    rules = [
        *_convolution(r"aspp_modules\.(\d+)", r"classifier.0.convs.\1"),
        *_convolution(r"image_pool\.1", f"classifier.0.convs.{count}", 1),
        *_convolution("bottleneck", "classifier.0.project"),
        *_logits("classifier.1"),
    ]
    changed = {f"{OURS}.classifier.0.project.0.weight": _pooled_last(make, axis=1)}
    return FoundHead(make, rules, _dilations(source), changed)


def _dilations(source: HeadTensors) -> str:
    return f"the branches' dilations are {', '.join(map(str, source.settings.rates))}"


def _deeplabv3plus(source: HeadTensors) -> FoundHead:
    convs = source.count(r"sep_bottleneck\.\d+")
    plain = _pyramid(DeepLabV3Plus, source, source.channels("bottleneck.pointwise_conv"))
    make = partial(
        plain,
        skip_level=source.level("c1_bottleneck.conv.weight"),
        skip_channels=source.channels("c1_bottleneck"),
        depthwise_norm=True,
        decoder_convs=convs,
    )
    pyramid, count = "decoder.aspp.0", len(make.keywords["rates"]) + 1
    rules = [
        *_convolution(r"aspp_modules\.0", f"{pyramid}.convs.0"),
        *_separable(r"aspp_modules\.(\d+)", rf"{pyramid}.convs.\1"),
        *_convolution(r"image_pool\.1", f"{pyramid}.convs.{count}", 1),
        *_separable("bottleneck", f"{pyramid}.project"),
        *_convolution("c1_bottleneck", "decoder.block1"),
        *_logits("segmentation_head.0"),
    ]
    for number in range(convs):
        rules += _separable(rf"sep_bottleneck\.{number}", "decoder.block2", 3 * number)
    project = f"{OURS}.{pyramid}.project.0"
    changed = {f"{project}.1.{part}": _pooled_last(make) for part in NORM}
    changed[f"{project}.0.weight"] = _pooled_last(make)
    changed[f"{project}.3.weight"] = _pooled_last(make, axis=1)
    return FoundHead(make, rules, _dilations(source), changed)


def _pyramid(head: Callable[..., Any], source: HeadTensors, channels: int) -> partial[Any]:
    rates, count = source.settings.rates, source.count(r"aspp_modules\.\d+")
    if len(rates) != count - 1:
        raise ValueError(
            f"{WHERE}: settings.rates: expected {count - 1} dilations, as many as the tensors have"
            f" dilated branches, got {list(rates)}"
        )
    return partial(
        head,
        level=source.level("aspp_modules.0.conv.weight"),
        channels=channels,
        rates=rates,
        project_kernel=3,
        dropout=source.settings.dropout,
    )


def _pooled_last(make: partial[Any], axis: int = 0) -> Callable[[Tensor], Tensor]:
    """Moves the channels of the image pooling, mmsegmentation's first branch, to the end."""
    return partial(torch.roll, shifts=-make.keywords["channels"], dims=axis)


_READERS: dict[str, Callable[[HeadTensors], FoundHead]] = {
    "fpn_bottleneck.conv.weight": _upernet,
    "c1_bottleneck.conv.weight": _deeplabv3plus,
    "image_pool.1.conv.weight": _deeplabv3,
    "psp_modules.0.1.conv.weight": _pspnet,
    "convs.0.conv.weight": _fcn,
}
"""A tensor that a head has and those after it do not, to how it is read."""
