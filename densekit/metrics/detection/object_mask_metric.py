"""What metrics over the masks of objects share: the masks beside the rows of their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from densekit.metrics.analyses import Analysis
from densekit.metrics.detection.box_metric import (
    DETECTION_COLUMNS,
    TRUTH_COLUMNS,
    BoxMetric,
)
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.object_masks import ObjectMasks, as_rows, packed, unpacked
from densekit.metrics.rows import Rows, ids_of, paired
from densekit.types import Result, Truth

Value = TypeVar("Value")

MASK_STATES = ("detection_masks", "truth_masks")
"""What these metrics keep beside the states of the boxes' metric."""


class ObjectMaskMetric(BoxMetric):
    """Base of metrics of boxes that look at the masks of the objects instead.

    It stands before a metric of boxes among the bases. Every name begins with `shape`, so that
    boxes and masks of a head stand in one table: `AP` is of boxes, `mask_AP` of masks.

    Attributes:
        overlap: What the overlap of two objects is.
    """

    shape: ClassVar[str] = "mask"
    overlap: ClassVar[type[ObjectMasks]] = ObjectMasks
    detection_masks: list[Tensor]
    truth_masks: list[Tensor]

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images, see `BoxMetric.update`; masks are N `RunLengths` of the image.

        Raises:
            ValueError: See `BoxMetric.update`; or there are no masks, or not one a box.
        """
        pairs = paired(results, truth)
        found = [
            _masks(r, t, f"a detection in image {t['image_id']}", "a head with masks")
            for r, t in pairs
        ]
        annotated = [
            _masks(t, t, f"the annotation of image {t['image_id']}", "data with instance_masks")
            for t in truth
        ]
        super().update(results, truth)
        self.keep(
            detection_masks=[packed(masks) for masks in found],
            truth_masks=[packed(masks) for masks in annotated],
        )

    def from_rows(self, ids: NDArray[np.int64], rows: Rows) -> dict[str, float]:
        """The values of the boxes' metric, each name after `shape`."""
        return self.prefixed(super().from_rows(ids, rows))

    def prefixed(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values, each name after `shape`."""
        return {f"{self.shape}_{name}": value for name, value in values.items()}

    def cases(self) -> list[dict[str, float]]:
        """A row per image as of `BoxMetric.cases`, each column after `shape`."""
        return [{"image_id": row.pop("image_id"), **self.prefixed(row)} for row in super().cases()]

    def analyses(self) -> list[Analysis]:
        """Those of `BoxMetric`, by the overlap of masks."""
        return [
            replace(one, title=f"{self.shape.capitalize()}s: {one.title}")
            for one in super().analyses()
        ]

    def _detections(self, ids: NDArray[np.int64], rows: Rows) -> Detections:
        boxes = rows["detections"].reshape(-1, DETECTION_COLUMNS)
        masks = self._sorted_masks(boxes, rows["detection_masks"], ids)
        return replace(super()._detections(ids, rows), masks=masks)

    def _annotated(self, ids: NDArray[np.int64], rows: Rows) -> Annotated:
        boxes = rows["truth"].reshape(-1, TRUTH_COLUMNS)
        masks = self._sorted_masks(boxes, rows["truth_masks"], ids)
        return replace(super()._annotated(ids, rows), masks=masks)

    def _sorted_masks(
        self, boxes: NDArray[np.float64], words: NDArray[np.float64], ids: NDArray[np.int64]
    ) -> ObjectMasks:
        """The masks in the order in which the rows of their boxes are sorted."""
        order = np.argsort(np.searchsorted(ids, ids_of(boxes[:, 0])), kind="stable")
        return self.overlap(unpacked(words, len(boxes))[order])


def _masks(entry: Mapping[str, Any], truth: Truth, where: str, needed: str) -> Any:
    if "masks" not in entry:
        raise ValueError(f"{where}: expected masks, got {', '.join(entry)}; they need {needed}")
    return as_rows(entry["masks"], len(entry["boxes"]), truth.get("size"), where)
