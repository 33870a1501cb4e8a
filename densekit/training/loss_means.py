"""Means of the losses of an evaluation over the images of all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densekit.ops import dist


class LossMeans:
    """Means per image, exact for any number of processes and any division of the images.

    Lightning's own mean over processes is wrong where they have unequally many images: it rounds
    the mean number of images down.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def update(self, losses: Mapping[str, Tensor], images: int) -> None:
        """Adds the losses of a batch.

        Args:
            losses: Name to mean over the images, ().
            images: Number of images; with 0 the losses are of repeats alone and are left out.
        """
        if not images:
            return
        values = torch.stack([loss.detach().double().cpu() for loss in losses.values()]).tolist()
        for name, value in zip(losses, values, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value * images
            self._counts[name] = self._counts.get(name, 0) + images

    def compute(self) -> dict[str, Tensor]:
        """Returns the mean of each loss that any process has; every process must call it."""
        parts = dist.gathered((self._sums, self._counts))
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        means = {}
        for name in names:
            total = sum(sums.get(name, 0.0) for sums, _ in parts)
            images = sum(counts.get(name, 0) for _, counts in parts)
            means[name] = torch.tensor(total / images if images else torch.nan)
        return means


def rows_of(value: Any, keep: Sequence[int]) -> Any:
    """Selects rows of tensors and lists, also in nested dicts."""
    if isinstance(value, Mapping):
        return {key: rows_of(item, keep) for key, item in value.items()}
    if isinstance(value, Tensor):
        return value[list(keep)]
    return [value[row] for row in keep]
