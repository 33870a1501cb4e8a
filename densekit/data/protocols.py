"""What a data set and a transform must be; plain classes satisfy both without inheriting."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from densekit.types import Batch, Sample


class Dataset(Protocol):
    """A map-style data set.

    A data set with targets of its own puts them under the sample's `extra` and has an attribute
    `target_specs: dict[str, TargetSpec]` that tells collate how to stack them.
    """

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int) -> Sample:
        """One image with its targets, its `meta` and its `truth`, unresized."""

    def describe(self) -> dict[str, Any]:
        """Plain values for the configuration: `names`, `ids`, `num_classes`, `channels`."""

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image, without opening one."""


class Transform(Protocol):
    """A change of one sample, random only through the generator that it is given."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; the given one and its arrays stay as they are."""


class BatchTransform(Protocol):
    """A change of a training batch, random only through the generator that it is given."""

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The changed batch; the given one and its tensors stay as they are."""
