"""What every backbone offers; `densekit.testing.check_backbone` proves that it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from densekit.types import Features, FeatureSpec


class Backbone(nn.Module, ABC):
    """An image in, levels c0, c1, ... out, from high to low resolution.

    Attributes:
        features: What `forward` returns: level name to channels and strides, known without running.
            c0 is the input itself, c1 the stem, c2 and on the stages. The number is the stage's;
            its stride stands in the spec. A network without a stem of its own has no c1.
        size_divisor: What the sides of an image must be multiples of.
    """

    features: dict[str, FeatureSpec]
    size_divisor: int = 1

    @abstractmethod
    def forward(self, x: Tensor) -> Features:
        """Maps an image (B, C, *S) to every level of `features`, in that order."""

    @abstractmethod
    def trim(self, levels: Iterable[str]) -> None:
        """Drops, with their parameters, the stages behind the deepest of the levels read.

        Raises:
            ValueError: If a level is unknown, or none is made by this backbone's layers.
        """
