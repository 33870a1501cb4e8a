"""Conversion of a ResNet in torchvision's layout, which smp and timm share."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from densekit.backbones import ResNet

DEPTHS: dict[tuple[str, tuple[int, ...]], int] = {
    ("BasicBlock", (2, 2, 2, 2)): 18,
    ("BasicBlock", (3, 4, 6, 3)): 34,
    ("Bottleneck", (3, 4, 6, 3)): 50,
    ("Bottleneck", (3, 4, 23, 3)): 101,
    ("Bottleneck", (3, 8, 36, 3)): 152,
}
"""Class of the blocks (torchvision's or timm's) and their number per stage, to the depth."""


def like_torchvision(body: Any, where: str) -> partial[ResNet]:
    """The constructor of a backbone of the same layers.

    Args:
        body: The network, with `conv1`, `bn1` and `layer1` to `layer4`.
        where: Beginning of error messages: the function that the user called.

    Raises:
        ValueError: It is not a ResNet of these blocks, or one of its convolutions differs.
    """
    stages: list[Any] = [getattr(body, f"layer{number}", None) for number in range(1, 5)]
    if any(stage is None for stage in stages):
        missing = [f"layer{n}" for n, stage in enumerate(stages, 1) if stage is None]
        raise ValueError(
            f"{where}: expected a backbone with layer1 to layer4, got none of {', '.join(missing)}"
        )
    block = stages[0][0]
    counts = tuple(len(stage) for stage in stages)
    kind = type(block).__name__
    depth = DEPTHS.get((kind, counts))
    if depth is None:
        accepted = ", ".join(str(known) for known in DEPTHS.values())
        raise ValueError(
            f"{where}: expected a ResNet of {accepted} layers, got a backbone of {counts} blocks"
            f" ({kind})"
        )
    norm = block.bn1
    groups = block.conv2.groups if _is_bottleneck(block) else 1
    width = block.conv2.out_channels // groups if _is_bottleneck(block) else 64
    backbone = partial(
        ResNet,
        depth=depth,
        groups=groups,
        width_per_group=width,
        in_channels=body.conv1.in_channels,
        output_stride=_output_stride(stages),
        dilate_first_block=1 < _dilation(stages[3][0]) == _dilation(stages[3][-1]),
        norm="frozen" if isinstance(norm, FrozenBatchNorm2d) else "batch",
        norm_eps=float(norm.eps),
        freeze_stages=_frozen_stages(body, stages),
    )
    with torch.device("meta"):
        _check_convolutions(body, backbone(), where)
    return backbone


def _is_bottleneck(block: Any) -> bool:
    return hasattr(block, "conv3")


def _strided(block: Any) -> nn.Conv2d:
    """The convolution that carries the stride of a block and its dilation."""
    found = block.conv2 if _is_bottleneck(block) else block.conv1
    assert isinstance(found, nn.Conv2d)
    return found


def _dilation(block: Any) -> int:
    return _strided(block).dilation[0]


def _output_stride(stages: list[Any]) -> int:
    stride = 4
    for stage in stages:
        stride *= _strided(stage[0]).stride[0]
    return stride


def _frozen_stages(body: Any, stages: list[nn.Module]) -> int:
    """Number of leading levels without a trainable weight, the stem being the first."""
    frozen = [not body.conv1.weight.requires_grad]
    frozen += [not any(p.requires_grad for p in stage.parameters()) for stage in stages]
    return frozen.index(False) if False in frozen else len(frozen)


def _check_convolutions(body: nn.Module, backbone: ResNet, where: str) -> None:
    ours = dict(backbone.named_modules())
    for name, conv in body.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        found, made = _shape(conv), _shape(ours.get(name))
        if found != made:
            raise ValueError(f"{where}: {name} of the backbone: expected {made}, got {found}")


def _shape(conv: nn.Module | None) -> str:
    """The settings of a convolution, without the padding of 1x1 convolutions, which is always 0."""
    if not isinstance(conv, nn.Conv2d):
        return "no convolution"
    shape = f"{conv.in_channels}->{conv.out_channels} of {conv.kernel_size}, stride {conv.stride}"
    if conv.kernel_size != (1, 1):
        shape += f", dilation {conv.dilation}, padding {conv.padding}"
    return f"{shape}, groups {conv.groups}"
