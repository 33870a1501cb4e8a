"""What metrics share that keep a row of numbers per image.

Shape letters: N images, W numbers of each.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit._names import counted
from densekit.metrics.means import Values
from densekit.metrics.rows import (
    RowMetric,
    as_tensors,
    gathered,
    id_bits,
    ids_of,
    paired,
    unique_ids,
)
from densekit.types import Result, Truth

logger = logging.getLogger(__name__)


class ImageMetric(RowMetric):
    """Base of metrics that look at one image after the other.

    An image becomes a row of numbers when it is seen, and is then forgotten. Rows are sorted by
    image before anything is computed, so the number of processes cannot change a metric.

    Args:
        **kwargs: Of `torchmetrics.Metric`.

    Attributes:
        nothing: Why the main metric may have no value though there are images.
    """

    kept = ("rows",)
    higher_is_better: bool | None = True
    nothing = "no class to measure in them"
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._table: tuple[NDArray[np.int64], Values] | None = None

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images; call it on every process, with empty lists where there is none.

        Args:
            results: One an image, in its original frame.
            truth: The annotation of each, with its `image_id`.

        Raises:
            ValueError: If the lists differ in length, or a result or an annotation is not what the
                metric measures.
        """
        self.keep(rows=[self._numbered(r, t) for r, t in paired(results, truth)])
        self._table = None

    def compute(self) -> dict[str, Tensor]:
        """All metrics, () float64 each; NaN, with the reason in the log, if there is no value."""
        table = gathered(self.rows, 1 + self.width)
        images = ids_of(table[:, 0])
        ids = unique_ids(images, type(self).__name__)
        rows = table[np.argsort(images), 1:]
        self._table = ids, rows
        metrics = self.aggregate_rows(rows)
        name, value = next(iter(metrics.items()))
        if math.isnan(value):
            reason = f"{counted(len(ids), 'image')}, {self.nothing}" if len(ids) else "no images"
            logger.warning("%s: %s is nan: %s", type(self).__name__, name, reason)
        return as_tensors(metrics, self.device)

    def computed(self) -> tuple[NDArray[np.int64], Values]:
        """(N,) ascending ids and (N, W) rows of the images of all processes, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        if self._table is None:
            raise RuntimeError(f"{type(self).__name__}: call compute first")
        return self._table

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self._table = None

    def _numbered(self, result: Result, truth: Truth) -> Tensor:
        """The row of one image behind its id."""
        row = torch.from_numpy(np.asarray(self.row(result, truth), dtype=np.float64).reshape(-1))
        return torch.cat((id_bits([truth["image_id"]]), row))

    @property
    @abstractmethod
    def width(self) -> int:
        """W."""

    @abstractmethod
    def row(self, result: Result, truth: Truth) -> Values:
        """(W,) numbers of one image, in any shape."""

    @abstractmethod
    def aggregate_rows(self, table: Values) -> Mapping[str, float]:
        """Metrics of (N, W) rows, the main one first.

        Every key must be there whatever N is, with NaN for what has no value.
        """
