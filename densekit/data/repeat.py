"""A small data set several times over."""

from __future__ import annotations

import numpy as np

from densekit.data.protocols import Dataset
from densekit.data.subset import Subset


class Repeat(Subset):
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
        super().__init__(data, np.tile(np.arange(len(data)), times))
