"""What metrics share that keep a row of numbers per image.

Shape letters: N images, W numbers of each.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit._names import counted
from densekit.metrics.means import Values
from densekit.metrics.protocols import Draws
from densekit.metrics.rows import RowMetric, Rows, id_bits, ids_of, paired
from densekit.types import Result, Truth

COUNTS = ("_left_out", "_empty")
"""Ends of the names that count images or classes."""

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

    kept: ClassVar[tuple[str, ...]] = ("rows",)
    higher_is_better: bool | None = True
    nothing = "no class to measure in them"
    rows: list[Tensor]

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images; call it on every process, with empty lists where there is none.

        Args:
            results: One an image, in its original frame.
            truth: The annotation of each, with its `image_id`.

        Raises:
            ValueError: If the lists differ in length, or a result or an annotation is not what the
                metric measures.
        """
        found = [self.states(r, t) for r, t in paired(results, truth)]
        self.keep(**{state: [one[state] for one in found] for state in self.kept})

    def states(self, result: Result, truth: Truth) -> dict[str, Tensor]:
        """What each state keeps of one image; sub-classes with more than its row extend it."""
        return {"rows": self.numbered(truth, self.row(result, truth))}

    def images_in(self, rows: Rows) -> NDArray[np.int64]:
        """(N,) id of every image."""
        return ids_of(self._table(rows)[:, 0])

    def from_rows(self, ids: NDArray[np.int64], rows: Rows) -> Mapping[str, float]:
        """`aggregate_rows` of the sorted rows."""
        metrics = self.aggregate_rows(self._sorted(rows))
        name, value = next(iter(metrics.items()))
        if math.isnan(value):
            reason = f"{counted(len(ids), 'image')}, {self.nothing}" if len(ids) else "no images"
            logger.warning("%s: %s is nan: %s", type(self).__name__, name, reason)
        return metrics

    def computed(self) -> tuple[NDArray[np.int64], Values]:
        """(N,) ascending ids and (N, W) rows of the images of all processes, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        return self.image_ids(), self._sorted(self.computed_rows())

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """Every metric of every draw of images but numbers of images; see `HasResamples`."""
        table = self._sorted(self.computed_rows())
        drawn = [self.aggregate_rows(np.repeat(table, counts, axis=0)) for counts in draws]
        names = [name for name in drawn[0] if not name.split("/")[0].endswith(COUNTS)]
        return {name: np.array([metrics[name] for metrics in drawn]) for name in names}

    def _table(self, rows: Rows) -> Values:
        """(N, 1 + W)."""
        return rows["rows"].reshape(-1, 1 + self.width)

    def _sorted(self, rows: Rows) -> Values:
        """(N, W) by ascending id."""
        table = self._table(rows)
        return table[np.argsort(ids_of(table[:, 0])), 1:]

    def numbered(self, truth: Truth, row: Values) -> Tensor:
        """The (W,) numbers of one image, in any shape, behind its id."""
        numbers = torch.from_numpy(np.asarray(row, dtype=np.float64).reshape(-1))
        return torch.cat((id_bits([truth["image_id"]]), numbers))

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
