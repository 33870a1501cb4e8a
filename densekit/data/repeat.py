"""A small data set several times over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset
from densekit.types import Sample


class Repeat:
    """Makes an epoch of a small data set long enough to be worth its end.

    After every epoch there is a checkpoint and perhaps a validation: fifty series would make three
    steps. Each repeat of an image is augmented for itself.

    Args:
        data: The data set.
        times: How often it is repeated.

    Raises:
        ValueError: If it is not repeated at all.
    """

    def __init__(self, data: Dataset, times: int) -> None:
        if times < 1:
            raise ValueError(f"Repeat.times: at least 1, found {times}")
        self.data, self.times = data, times
        self.target_specs = getattr(data, "target_specs", {})

    def __len__(self) -> int:
        return len(self.data) * self.times

    def __getitem__(self, index: int) -> Sample:
        """The image at a position modulo the number of images."""
        sample = self.data[index % len(self.data)]
        sample["index"] = index
        return sample

    @property
    def keys(self) -> NDArray[Any]:
        """(N times,) what equal images share; empty if the data do not say."""
        return np.tile(getattr(self.data, "keys", np.zeros(0, dtype=bytes)), self.times)

    def describe(self) -> dict[str, Any]:
        """What the data set says of itself."""
        return self.data.describe()

    @property
    def sizes(self) -> NDArray[Any]:
        """(N times, D) sides of every image."""
        return np.tile(self.data.sizes, (self.times, 1))
