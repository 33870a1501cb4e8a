"""Conversion of an iResNet of insightface's `arcface_torch` to an equivalent backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from densekit.backbones import IResNet
from densekit.backbones.iresnet import BLOCKS_BY_DEPTH

State = dict[str, Tensor]
HEAD = IResNet.classifier
"""Prefixes of the layers after the last stage: norm, fully connected layer, embedding norm."""


def from_insightface(model: nn.Module | Mapping[str, Tensor]) -> tuple[IResNet, State]:
    """Converts an iResNet; its depth is derived from the weights.

    `arcface_torch` normalises RGB images with mean 127.5 and std 127.5 per channel (`info`).

    Args:
        model: `iresnet50` or similar, or its state dict, also of DistributedDataParallel.

    Returns:
        The backbone, in eval mode, and the remaining tensors, those of the head: `bn2.*` of the
        last stage's channels, `fc.*` over the flattened map (channel, row, column), `features.*` of
        the embedding.

    Raises:
        ValueError: It is not an iResNet of depth 18, 34, 50, 100 or 200.
    """
    given = model.state_dict() if isinstance(model, nn.Module) else model
    state = {key.removeprefix("module."): value for key, value in given.items()}
    head = {key: value for key, value in state.items() if key.startswith(HEAD)}
    body = {key: value for key, value in state.items() if key not in head}
    depth = _depth(body)
    backbone = IResNet(depth, in_channels=body["conv1.weight"].shape[1])
    expected = backbone.state_dict()
    for key in sorted(expected.keys() ^ body.keys()):
        got = f"no {key}" if key in expected else f"{key} too"
        raise ValueError(f"from_insightface: expected the weights of an iResNet, got {got}")
    weight = body["conv1.weight"]
    backbone.to(weight.device, weight.dtype)  # first, or float64 weights would become float32
    try:
        backbone.load_state_dict(body)
    except RuntimeError as error:  # a tensor of another shape, which the message names
        raise ValueError(
            f"from_insightface: expected the weights of an iResNet, got: {error}"
        ) from error
    return backbone.eval(), head


def _depth(state: Mapping[str, Tensor]) -> int:
    """The depth, from the number of blocks in each stage."""
    found = {
        (int(match[1]), int(match[2]))
        for key in state
        if (match := re.match(r"layer(\d)\.(\d+)\.prelu\.weight$", key))
    }
    counts = tuple(sum(stage == number for stage, _ in found) for number in range(1, 5))
    for depth, accepted in BLOCKS_BY_DEPTH.items():
        if counts == accepted and "conv1.weight" in state:
            return depth
    names = ", ".join(map(str, BLOCKS_BY_DEPTH.values()))
    raise ValueError(f"from_insightface: expected stages of {names} blocks, got {counts}")
