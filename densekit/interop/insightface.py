"""An iResNet of insightface's `arcface_torch` as a backbone of equal layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from densekit.backbones import IResNet
from densekit.backbones.iresnet import BLOCKS_BY_DEPTH

State = dict[str, Tensor]
HEAD = IResNet.classifier
"""What stands behind the last stage: norm, fully connected layer, norm of the embedding."""


def from_insightface(model: nn.Module | Mapping[str, Tensor]) -> tuple[IResNet, State]:
    """Converts an iResNet; its depth follows from the weights.

    `arcface_torch` normalises with `info` of mean 127.5 and std 127.5 a channel, RGB.

    Args:
        model: `iresnet50` and the like, or their state dict, from DistributedDataParallel too.

    Returns:
        The backbone, in eval mode, and what is left over, the head's: `bn2.*` of the last stage's
        channels, `fc.*` over the flattened map (channel, row, column), `features.*` of the
        embedding.

    Raises:
        ValueError: If it is no iResNet, or of another depth than 18, 34, 50, 100 or 200.
    """
    given = model.state_dict() if isinstance(model, nn.Module) else model
    state = {key.removeprefix("module."): value for key, value in given.items()}
    head = {key: value for key, value in state.items() if key.startswith(HEAD)}
    body = {key: value for key, value in state.items() if key not in head}
    depth = _depth(body)
    backbone = IResNet(depth, in_channels=body["conv1.weight"].shape[1])
    expected = backbone.state_dict()
    for key in sorted(expected.keys() ^ body.keys()):
        where = "missing" if key in expected else "not of an iResNet"
        raise ValueError(f"from_insightface: found weights with {key} {where}")
    weight = body["conv1.weight"]
    backbone.to(weight.device, weight.dtype)  # first, lest float64 weights pass through float32
    try:
        backbone.load_state_dict(body)
    except RuntimeError as error:  # a tensor of another shape, which the message names
        raise ValueError(f"from_insightface: {error}") from error
    return backbone.eval(), head


def _depth(state: Mapping[str, Tensor]) -> int:
    """From the number of blocks in each stage."""
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
    raise ValueError(f"from_insightface: found {counts} blocks, accepted are {names}")
