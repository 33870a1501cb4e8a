"""Networks that are known by the names of their tensors, but do not convert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from densekit.interop.conversion import abridged

FIRST, FIRST_BLOCK = "conv1.weight", "layer1.0.conv1.weight"


@dataclass(frozen=True)
class Unconverted:
    """A kind of network that has no counterpart.

    Attributes:
        names: Regular expression that matches the name of one of its tensors, from the beginning.
        what: What it is.
        instead: What to do, as the end of a message.
    """

    names: str
    what: str
    instead: str


KINDS = (
    Unconverted(
        r"res2_0_branch2a_|res2\.0\.conv1\.",
        "the ImageNet weights with which detectron2's trainings begin, a backbone without heads",
        "start yours with backbone.weights=torchvision:resnet50",
    ),
    Unconverted(
        r"(.*\.)?patch_embed\.proj\.weight$",
        "a vision transformer",
        "as a backbone without its heads: backbone=timm backbone.name=NAME backbone.weights=FILE",
    ),
    Unconverted(
        r"(model\.)+\d+\.(conv|cv\d)\.", "a YOLO of ultralytics", "densekit has no such network"
    ),
    Unconverted(
        r"(.*\.)?(embedder\.embedder|encoder\.stages\.\d+\.layers\.\d+\.layer\.\d+)\.convolution\.",
        "a ResNet of Hugging Face's transformers",
        "convert timm's: source=timm:NAME",
    ),
    Unconverted(
        r"(module\.|model\.)?transformer\.(en|de)coder\.layers\.",
        "a DETR",
        "densekit has no such network",
    ),
    Unconverted(
        r"(module\.)?(features|blocks|stages)\.\d+\.",
        "a network other than a ResNet",
        "as a backbone without its heads: backbone=timm backbone.name=NAME backbone.weights=FILE",
    ),
)
"""Tried in this order."""


def what_it_is(state: Mapping[str, Tensor]) -> str:
    """Says what the tensors look like and what to do instead; their names if that is unknown.

    Args:
        state: Tensors of no layout that converts.
    """
    for kind in KINDS:
        if any(re.match(kind.names, name) for name in state):
            return f"those of {kind.what}; {kind.instead}"
    return abridged(list(state)) or "none"


def cifar_depth(state: Mapping[str, Tensor]) -> int | None:
    """Layers of a CIFAR-ResNet, 20 for three stages of three blocks; None for any other network.

    Args:
        state: Tensors by torchvision's names. A first convolution of 3x3 and three stages tell it
            from a ResNet without its last stage.
    """
    if FIRST not in state or FIRST_BLOCK not in state or state[FIRST].shape[-1] != 3:
        return None
    blocks = re.compile(r"layer(\d)\.(\d+)\.conv1\.weight$")
    found = {match.groups() for name in state if (match := blocks.match(name))}
    counts = [sum(stage == number for stage, _ in found) for number in "1234"]
    return 6 * counts[0] + 2 if counts == [counts[0]] * 3 + [0] else None
