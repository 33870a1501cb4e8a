"""The settings of a ResNet, found in its tensors by torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from densekit.backbones import ResNet
from densekit.interop.resnet import DEPTHS
from densekit.interop.unconverted import cifar_depth


def resnet_of_tensors(where: str, state: Mapping[str, Tensor], **settings: Any) -> partial[ResNet]:
    """The constructor of a ResNet or ResNeXt that takes these tensors.

    Args:
        where: Beginning of error messages, such as the function that the user called.
        state: Tensors named as torchvision's: `conv1.weight`, `layer1.0.conv1.weight`, ...
        settings: What the tensors do not say: `norm`, `stride_in_1x1`, ...

    Raises:
        ValueError: The number of blocks is that of no ResNet for ImageNet.
    """
    counts = tuple(_blocks(state, stage) for stage in range(1, 5))
    kind = "Bottleneck" if "layer1.0.conv3.weight" in state else "BasicBlock"
    depth = DEPTHS.get((kind, counts))
    if depth is None:
        if layers := cifar_depth(state):
            raise ValueError(
                f"{where}: expected a ResNet of ImageNet's kind, got a CIFAR-ResNet of {layers}"
                f" layers; as a backbone: backbone=cifar_resnet backbone.depth={layers}"
                " backbone.weights=FILE"
            )
        accepted = ", ".join(map(str, DEPTHS.values()))
        raise ValueError(
            f"{where}: expected a ResNet of {accepted} layers, got stages of {counts} blocks"
        )
    deep = "conv1.0.weight" in state
    first, last = ("conv1.0.weight", "conv1.6.weight") if deep else ("conv1.weight",) * 2
    stem, channels = len(state[last]), state[first].shape[1]
    settings = {"depth": depth, "in_channels": channels, "width": stem, **settings}
    settings |= {"stem": "deep"} if deep else {}
    if kind == "Bottleneck":
        inner, per_group = state["layer1.0.conv2.weight"].shape[:2]
        groups = inner // per_group
        settings |= {"groups": groups, "width_per_group": 64 * per_group // stem}
    return partial(ResNet, **settings)


def _blocks(state: Mapping[str, Tensor], stage: int) -> int:
    matches = (re.match(rf"layer{stage}\.(\d+)\.conv1\.weight$", name) for name in state)
    return len({match[1] for match in matches if match})


def resnet_name(backbone: partial[ResNet]) -> str:
    """Its usual name: `ResNet-50`, `ResNeXt-101 32x8d`."""
    depth, groups = backbone.keywords["depth"], backbone.keywords.get("groups", 1)
    if groups == 1:
        return f"ResNet-{depth}"
    return f"ResNeXt-{depth} {groups}x{backbone.keywords['width_per_group']}d"
