"""What a neck is: the contract that every neck, ours or a plug-in's, keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import nn

from densekit._names import unknown
from densekit.types import Features, Specs


class Neck(nn.Module, ABC):
    """Adds levels to those of the backbone and removes none.

    `DenseModel` makes a neck twice. Made without `reads` it has no layers: it only says in `specs`
    which levels it could add, and heads are built on these. Then it is made for the levels that the
    heads read, with no parameter that these do not need. A class is called as
    `MyNeck(features, reads=(), **settings)` and hands `specs` on to this one.

    Args:
        features: Levels of the backbone.
        reads: Levels that the heads read; those of the backbone among them are left alone.
        specs: Every level that could be added to these features with these settings.

    Attributes:
        specs: As given.
        levels: The levels of `specs` that are read, in their order.
        features: Level name to spec of what `forward` returns.
        reads: Levels of the backbone that `forward` looks up; set by the class.
        size_divisor: What the padded sides of an image must be multiples of.

    Raises:
        ValueError: A level is read that neither the backbone nor the neck has.
    """

    reads: tuple[str, ...]
    size_divisor: int = 1

    def __init__(self, features: Specs, reads: Iterable[str], specs: Specs) -> None:
        super().__init__()
        wanted = set(reads)
        for level in sorted(wanted - {*features, *specs}):
            raise ValueError(unknown("level read", level, [*features, *specs]))
        self.specs = dict(specs)
        self.levels = tuple(level for level in specs if level in wanted)
        self.features = {**features, **{level: specs[level] for level in self.levels}}

    @abstractmethod
    def forward(self, features: Features) -> Features:
        """The levels given, at least those of `reads`, and the `levels` of this neck."""
