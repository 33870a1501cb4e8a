"""What metrics over masks share: a row of numbers an image, and tables of cases.

Shape letters: N images, K classes, L measured classes, C numbers of each.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from densekit.metrics.mask_pair import MaskPair, mask_pair
from densekit.metrics.rows import as_tensors, check_names, flat, gathered, row_device, unique_ids
from densekit.types import IGNORE_INDEX, Result, Truth

Values = NDArray[np.float64]

logger = logging.getLogger(__name__)


class MaskMetric(Metric, ABC):
    """Base of metrics over masks of any dimension: multi-class, binary (K = 1) or multi-label.

    An image becomes a row of numbers when it is seen, and is then forgotten. Rows are sorted by
    image before anything is computed, so the number of processes cannot change a figure.

    Args:
        names: Class names, one a label 0..K-1; they name the per-class figures.
        background: Whether class 0 is the background.
        multilabel: Whether every class is a question of its own, with masks (K, *S).
        **kwargs: Of `torchmetrics.Metric`.

    Attributes:
        foreground_only: Whether the background is left out of what is measured.
        labels: The L classes that are measured.
        columns: C, the numbers kept of each.
    """

    full_state_update = False
    higher_is_better: bool | None = True
    foreground_only = False
    columns: int
    rows: list[Tensor]

    def __init__(
        self,
        names: Sequence[str],
        *,
        background: bool = False,
        multilabel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.names = check_names(names)
        if not 1 <= len(self.names) <= IGNORE_INDEX:
            raise ValueError(f"names: found {len(self.names)}, accepted are 1 to {IGNORE_INDEX}")
        self.multilabel = multilabel
        # The one class of a binary mask is what is looked for, whatever the data call it.
        self.background = background and len(self.names) > 1
        self.labels = range(int(self.background and self.foreground_only), len(self.names))
        self._table: Values | None = None
        # torchmetrics makes the state of a process without updates in this type.
        self.set_dtype(torch.float64)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images; call it on every process, with empty lists where there is none.

        Args:
            results: One an image, in its original frame: `mask` (*S) or (K, *S), integers.
            truth: The annotation of each: image_id, mask, and spacing where it is known.

        Raises:
            ValueError: If the lists differ in length, or a mask is missing, not of its image's
                shape, or has a value that is no class.
        """
        if len(results) != len(truth):
            raise ValueError(f"{len(results)} results for {len(truth)} annotated images")
        rows = [self._row(r, t) for r, t in zip(results, truth, strict=True)]
        self.rows.append(flat(rows, row_device(self.device)))
        self._table = None

    def compute(self) -> dict[str, Tensor]:
        """All figures, () float64 each; NaN, with the reason in the log, if there is no value."""
        table = gathered(self.rows, 1 + len(self.labels) * self.columns)
        ids = unique_ids(table[:, 0], type(self).__name__)
        self._table = table[np.argsort(table[:, 0])]
        figures = self.figures(self._values(self._table))
        name, value = next(iter(figures.items()))
        if math.isnan(value):
            reason = f"{len(ids)} images, no class to measure in them" if len(ids) else "no images"
            logger.warning("%s: %s is nan: %s", type(self).__name__, name, reason)
        return as_tensors(figures, self.device)

    def cases(self) -> list[dict[str, float]]:
        """A row for each image of all processes, by ascending `image_id`, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        if self._table is None:
            raise RuntimeError(f"{type(self).__name__}.cases: call compute first")
        values = self._values(self._table)
        return [
            {"image_id": int(image), **self.case_figures(row)}
            for image, row in zip(self._table[:, 0], values, strict=True)
        ]

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self._table = None

    @abstractmethod
    def measure(self, pair: MaskPair) -> Values:
        """(L, C) numbers of one image."""

    @abstractmethod
    def figures(self, values: Values) -> Mapping[str, float]:
        """Figures of (N, L, C) numbers, the main one first.

        Every key must be there whatever N is, with NaN for what has no value.
        """

    @abstractmethod
    def case_figures(self, values: Values) -> Mapping[str, float]:
        """Figures of one image's (L, C) numbers."""

    def per_class(self, prefix: str, values: Values) -> dict[str, float]:
        """`PREFIX_NAME` of (L,) values."""
        return {
            f"{prefix}_{self.names[label]}": float(value)
            for label, value in zip(self.labels, values, strict=True)
        }

    def _row(self, result: Result, truth: Truth) -> Tensor:
        pair = mask_pair(result, truth, len(self.names), multilabel=self.multilabel)
        return torch.from_numpy(np.append(float(pair.image_id), self.measure(pair)))

    def _values(self, table: Values) -> Values:
        return table[:, 1:].reshape(len(table), len(self.labels), self.columns)


def mean(values: Values) -> float:
    """The mean of those that are not NaN; NaN without any."""
    return float(column_means(values.reshape(-1, 1))[0])


def column_means(values: Values) -> Values:
    """Likewise along the first axis, (N, L) to (L,)."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0.0).sum(0), there.sum(0))


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Values:
    """Element by element, NaN where the whole is 0."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
