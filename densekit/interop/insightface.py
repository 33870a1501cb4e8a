"""Conversion of an iResNet of insightface's `arcface_torch` to an equivalent `DenseModel`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from densekit.backbones import IResNet
from densekit.backbones.iresnet import BLOCKS_BY_DEPTH
from densekit.heads import Embedding
from densekit.heads.embedding import FlattenedMap
from densekit.interop.conversion import Conversion, Parts, convert_tensors, renamer
from densekit.model import DenseModel

WHERE = "from_insightface"
HEAD = "embedding"
LAST_CHANNELS, STRIDE = 512, 16
"""Of the map that the embedding is computed from."""
RENAME = renamer(
    [
        (
            rf"^(?=({'|'.join(re.escape(name) for name in IResNet.classifier)}))",
            f"heads.{HEAD}.pool.",
        ),
        (r"^", "backbone."),
    ]
)


def from_insightface(model: nn.Module | Mapping[str, Tensor]) -> DenseModel:
    """Converts an iResNet with its embedding; depth and image size are derived from the weights.

    The embedding has length 1, in the direction of the original's. Without the layers after the
    last stage the result is a backbone alone. Images are RGB, aligned, 112 x 112 as a rule, and
    normalised with mean 127.5 and std 127.5.

    Args:
        model: `iresnet50` or similar, or its state dict, also of DistributedDataParallel.

    Raises:
        ValueError: It is not an iResNet of depth 18, 34, 50, 100 or 200.
    """
    return convert(model.state_dict() if isinstance(model, nn.Module) else model).model


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of an iResNet."""
    return any(name.removeprefix("module.") == "layer1.0.prelu.weight" for name in state)


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a state dict; see `from_insightface`.

    Args:
        state: Tensors of `arcface_torch`, also below `module.`.
        names: Must be None, as an embedding has no classes.

    Raises:
        ValueError: See `from_insightface`.
    """
    if names is not None:
        raise ValueError(f"names: expected none for an embedding, got {len(names)}")
    own = {name.removeprefix("module."): value for name, value in state.items()}
    depth = _depth(own)
    channels = own["conv1.weight"].shape[1]
    heads = {HEAD: _head(own)} if "fc.weight" in own else {}
    return convert_tensors(
        WHERE,
        Parts(partial(IResNet, depth=depth, in_channels=channels), heads),
        {
            "mean": [127.5] * channels,
            "std": [127.5] * channels,
            "channels": channels,
            "heads": {name: {} for name in heads},
            "resize": None,
        },
        own,
        RENAME,
        source=f"insightface iResNet-{depth}",
        assumed=("mean and std: 127.5, of RGB images",),
    )


def _head(state: Mapping[str, Tensor]) -> partial[Any]:
    """An embedding without centres, which training adds or replaces."""
    size, cells = state["fc.weight"].shape[0], state["fc.weight"].shape[1] // LAST_CHANNELS
    side = STRIDE * math.isqrt(cells)
    return partial(
        Embedding,
        num_identities=1,
        embedding_size=size,
        pool=partial(FlattenedMap, size=(side, side)),
        classifier=None,
        pair_losses={"triplet": {"_target_": "densekit.losses.Triplet"}},
    )


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
    raise ValueError(f"{WHERE}: expected stages of {names} blocks, got {counts}")
