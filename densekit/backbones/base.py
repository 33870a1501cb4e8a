"""The base class of all backbones; `densekit.testing.check_backbone` tests an implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from densekit.types import Features, FeatureSpec


class Statistics(NamedTuple):
    """Mean and standard deviation per channel, in the unit of images of 8 bits."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Backbone(nn.Module, ABC):
    """Computes feature levels c0, c1, ... of an image, from high to low resolution.

    Attributes:
        features: Level name to spec (channels and strides) of what `forward` returns. c0 is the
            input itself, c1 the stem, c2 and deeper the stages. The number is the stage's, not its
            stride. A network without a separate stem has no c1.
        size_divisor: The sides of an image must be multiples of this.
        statistics: What the pretrained weights expect images to be normalised by; None if there are
            no such weights or they do not say. `DenseModel` warns if its own differ.
    """

    features: dict[str, FeatureSpec]
    size_divisor: int = 1
    statistics: Statistics | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Features:
        """Maps an image (B, C, *S) to every level of `features`, in that order."""

    @abstractmethod
    def trim(self, levels: Iterable[str]) -> None:
        """Removes the stages after the deepest of the levels read, with their parameters.

        Raises:
            ValueError: A level is unknown, or none but c0 is read.
        """
