"""Small one-stage heads and levels for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from densekit.heads import SSD
from densekit.types import Features, FeatureSpec
from tests.unit.tiny import CHANNELS, CLASSES, spread

LEVELS = {f"p{number}": FeatureSpec(CHANNELS, (2**number, 2**number)) for number in range(3, 8)}
SIDES = (64, 96)


def one_stage(kind: Callable[..., Any], **settings: Any) -> Any:
    """A head whose scores spread."""
    made = kind({"c0": FeatureSpec(3, (1, 1)), **LEVELS}, CLASSES, **{"depth": 1, **settings})
    for name, parameter in made.named_parameters():
        if name.endswith(("logits.bias", "objectness.bias")):
            torch.nn.init.zeros_(parameter)
    spread(made)
    return made


def ssd(**settings: Any) -> Any:
    """An SSD on the same levels; fresh weights spread its scores."""
    torch.manual_seed(0)
    return SSD(LEVELS, CLASSES, levels=tuple(LEVELS), extra_channels=(), side=96, **settings)


def features(batch: int) -> Features:
    torch.manual_seed(0)
    levels = {
        name: torch.randn(batch, CHANNELS, *(-(-side // spec.stride[0]) for side in SIDES))
        for name, spec in LEVELS.items()
    }
    return {"c0": torch.zeros(batch, 3, *SIDES), **levels}
