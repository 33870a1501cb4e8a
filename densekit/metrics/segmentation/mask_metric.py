"""What metrics over masks share: a row of numbers per image, and tables of cases.

Shape letters: N images, K classes, L measured classes, C numbers of each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.means import Values
from densekit.metrics.rows import check_names
from densekit.metrics.segmentation.mask_pair import MaskPair, mask_pair
from densekit.types import IGNORE_INDEX, Result, Truth


class MaskMetric(ImageMetric):
    """Base of metrics over masks of any dimension: multi-class, binary (K = 1) or multi-label.

    Results hold `mask` (*S), or (K, *S) if multi-label, integers in the original frame; the
    annotation holds `image_id`, `mask`, and `spacing` where it is known. A mask that is missing,
    not of its image's shape, or has a value that is no class is a ValueError.

    Args:
        names: Class names, one a label 0..K-1; they name the per-class metrics.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent, with masks (K, *S), or exclusive.
        **kwargs: Of `torchmetrics.Metric`.

    Attributes:
        foreground_only: Whether the background is left out of what is measured.
        labels: The L classes that are measured.
        columns: C, the numbers kept of each.
    """

    foreground_only = False
    columns: int

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
            raise ValueError(f"names: expected 1 to {IGNORE_INDEX} classes, got {len(self.names)}")
        self.multilabel = multilabel
        # The one class of a binary mask is what is looked for, whatever the data call it.
        self.background = background and len(self.names) > 1
        self.labels = range(int(self.background and self.foreground_only), len(self.names))

    @property
    def width(self) -> int:
        """L C."""
        return len(self.labels) * self.columns

    def row(self, result: Result, truth: Truth) -> Values:
        """(L, C) numbers of one image."""
        pair = mask_pair(result, truth, len(self.names), multilabel=self.multilabel)
        return self.measure(pair)

    def aggregate_rows(self, table: Values) -> Mapping[str, float]:
        """`aggregate` of the rows."""
        return self.aggregate(self._values(table))

    def cases(self) -> list[dict[str, float]]:
        """A row for each image of all processes, by ascending `image_id`, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        ids, table = self.computed()
        return [
            {"image_id": int(image), **self.case_metrics(row)}
            for image, row in zip(ids, self._values(table), strict=True)
        ]

    @abstractmethod
    def measure(self, pair: MaskPair) -> Values:
        """(L, C) numbers of one image."""

    @abstractmethod
    def aggregate(self, values: Values) -> Mapping[str, float]:
        """Metrics of (N, L, C) numbers, the main one first.

        Every key must be there whatever N is, with NaN for what has no value.
        """

    @abstractmethod
    def case_metrics(self, values: Values) -> Mapping[str, float]:
        """Metrics of one image's (L, C) numbers."""

    def per_class(self, prefix: str, values: Values) -> dict[str, float]:
        """`PREFIX/NAME` of (L,) values."""
        return {
            f"{prefix}/{self.names[label]}": float(value)
            for label, value in zip(self.labels, values, strict=True)
        }

    def _values(self, table: Values) -> Values:
        return table.reshape(len(table), len(self.labels), self.columns)
