"""The rows a metric keeps per image, and how they are gathered across processes.

Rows are flat float64 tensors: torchmetrics gathers those of any length, also of a process that saw
nothing, and coordinates and counts below 2^53 stay exact. Image ids have 64 bits: they travel as
the bits of a float64, which copies and gathering leave alone.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from densekit.types import Result, Truth

Rows = Mapping[str, NDArray[np.float64]]
"""State of a metric to its flat values, of the images of all processes."""


def id_bits(ids: Sequence[int]) -> Tensor:
    """(N,) float64 with the bits of N image ids, whole numbers of 64 bits.

    Raises:
        ValueError: One has more.
    """
    for image_id in ids:
        if not -(1 << 63) <= image_id < 1 << 63:
            raise ValueError(f"image_id: expected a whole number of 64 bits, got {image_id}")
    return torch.tensor(list(map(int, ids)), dtype=torch.int64).view(torch.float64)


def ids_of(bits: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) the image ids of `id_bits`."""
    ids: NDArray[np.int64] = np.ascontiguousarray(bits).view(np.int64)
    return ids


def check_names(names: Sequence[str]) -> list[str]:
    """Refuses class names that could not be keys: per-class metrics are named by them."""
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ValueError(
            f"names: expected names that differ, got more than once: {', '.join(repeated)}"
        )
    return list(names)


def row_device(device: torch.device) -> torch.device:
    """Where the rows of a metric on `device` lie: Apple's GPU has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def flat(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """Tensors of any shape to one of () float64 values, empty without any."""
    nothing = torch.zeros(0, dtype=torch.float64)
    return torch.cat([row.reshape(-1) for row in rows] or [nothing]).to(device)


def gathered(state: list[Tensor] | Tensor, columns: int) -> NDArray[np.float64]:
    """A state, gathered or not, updated or not, as (N, columns)."""
    values = dim_zero_cat(state) if len(state) else torch.zeros(0, dtype=torch.float64)
    array: NDArray[np.float64] = values.reshape(-1, columns).cpu().numpy()
    return array


def unique_ids(images: NDArray[np.int64], metric: str) -> NDArray[np.int64]:
    """The ascending ids of the images.

    Args:
        images: (N,) id of each image that the metric was given.
        metric: Its name, for the error.

    Raises:
        ValueError: An image was given more than once.
    """
    ids, first = np.unique(images, return_index=True)
    if len(ids) < len(images):
        repeated = np.delete(images, first)
        raise ValueError(
            f"{metric}: expected every image once, got image {int(repeated[0])} again"
            f" ({len(repeated)} repeats); what a distributed sampler repeats must be left out"
            " (sample_valid)"
        )
    return ids


class RowMetric(Metric, ABC):
    """Base of metrics that keep rows of every image and measure those of all processes at the end.

    The rows of an evaluation can be stored, and measured again later by a metric that was built
    with the same arguments: every parameter of a sub-class has an attribute of its name.

    Args:
        **kwargs: Of `torchmetrics.Metric`.

    Attributes:
        kept: Names of the states, each a list with one tensor per update.
    """

    full_state_update = False
    kept: ClassVar[tuple[str, ...]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._measured: tuple[NDArray[np.int64], Rows] | None = None
        # torchmetrics makes the state of a process without updates in this type.
        self.set_dtype(torch.float64)
        for state in self.kept:
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def keep(self, **rows: Sequence[Tensor]) -> None:
        """Adds the rows of some images to each state, also where there is none."""
        for state, of_images in rows.items():
            getattr(self, state).append(flat(of_images, row_device(self.device)))
        self._measured = None

    def compute(self) -> dict[str, Tensor]:
        """All metrics, () float64 each; NaN, with the reason in the log, if there is no value."""
        rows = {state: gathered(getattr(self, state), 1)[:, 0] for state in self.kept}
        return as_tensors(self.recompute(rows), self.device)

    def recompute(self, rows: Rows) -> Mapping[str, float]:
        """Measures the rows of an earlier evaluation.

        Args:
            rows: What `computed_rows` returned.

        Raises:
            ValueError: An image occurs more than once.
        """
        ids = unique_ids(self.images_in(rows), type(self).__name__)
        metrics = self.from_rows(ids, rows)
        self._measured = ids, rows
        return metrics

    def arguments(self) -> dict[str, Any]:
        """What builds an equal metric, by name of the parameter."""
        parameters = inspect.signature(type(self)).parameters.values()
        named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        return {name: getattr(self, name) for name in named}

    def computed_rows(self) -> Rows:
        """The rows of the images of all processes, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        return self._last()[1]

    def image_ids(self) -> NDArray[np.int64]:
        """(N,) ascending ids of the images of all processes, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        return self._last()[0]

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self._measured = None

    @abstractmethod
    def images_in(self, rows: Rows) -> NDArray[np.int64]:
        """(N,) id of every image of the rows, in any order."""

    @abstractmethod
    def from_rows(self, ids: NDArray[np.int64], rows: Rows) -> Mapping[str, float]:
        """Measures, the main metric first.

        Every key must be there whatever the rows, with NaN for what has no value.

        Args:
            ids: (N,) ascending ids of the images.
            rows: Of every state, flat.
        """

    def _last(self) -> tuple[NDArray[np.int64], Rows]:
        if self._measured is None:
            raise RuntimeError(f"{type(self).__name__}: call compute first")
        return self._measured


def paired(results: Sequence[Result], truth: Sequence[Truth]) -> list[tuple[Result, Truth]]:
    """Each result and the annotation of its image.

    Raises:
        ValueError: If the lists differ in length.
    """
    if len(results) != len(truth):
        count = len(truth)
        raise ValueError(f"results: expected one per annotated image ({count}), got {len(results)}")
    return list(zip(results, truth, strict=True))


def as_tensors(metrics: Mapping[str, float], device: torch.device) -> dict[str, Tensor]:
    """Metrics as () tensors on the metric's device."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return {
        name: torch.tensor(value, dtype=dtype, device=device) for name, value in metrics.items()
    }
