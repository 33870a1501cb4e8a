"""The base class of all necks, built-in or from a plug-in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import nn

from densekit._names import unknown
from densekit.types import Features, Specs


class Neck(nn.Module, ABC):
    """Adds levels to those of the backbone and removes none.

    `DenseModel` builds a neck twice: first without `reads` and so without layers, to learn from
    `specs` which levels it can add, on which the heads are built; then for the levels that the
    heads read, with no parameter that these do not need. A subclass is called as
    `MyNeck(features, reads=(), **settings)` and passes `specs` to this class.

    Args:
        features: Specs of the backbone's levels.
        reads: Levels that the heads read; those of the backbone are ignored.
        specs: Specs of every level that could be added to these features with these settings.

    Attributes:
        specs: Specs of every level that could be added.
        levels: The levels of `specs` that are read, in their order.
        features: Level name to spec of what `forward` returns.
        reads: Levels of the backbone that `forward` uses; set by the subclass.
        size_divisor: The padded sides of an image must be multiples of this.

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
        """Returns the given levels, at least those of `reads`, and the `levels` of this neck."""
