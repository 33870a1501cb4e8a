"""What is drawn on an image: boxes from the rows of an evaluation, masks from its label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from densekit.app.reports.blocks import Box, ImageKey, Picture, View
from densekit.app.reports.blocks import Gallery as Shown
from densekit.app.reports.names import class_names, drawn_classes
from densekit.evaluation import Evaluation, Measured
from densekit.metrics.detection.box_metric import BoxMetric
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.segmentation.mask_metric import MaskMetric
from densekit.metrics.thresholds import threshold_of_classes
from densekit.visualization.label_maps import BITS, LabelMap

LEAST_SCORE, MOST_BOXES = 0.05, 100
"""Detections that a page holds of an image; the rest would not be seen."""


@dataclass(frozen=True)
class Overlays:
    """The boxes and masks of one head on one data set.

    Attributes:
        data: Name of the data set.
        classes: Class names by label, value or bit; see `Gallery`.
        bits: See `Gallery`.
        boxes: A metric with boxes, if there is one.
        maps: Label maps by image.
    """

    data: str
    classes: Mapping[int, str]
    bits: bool
    boxes: BoxMetric | None
    maps: Mapping[int, LabelMap]

    @classmethod
    def of(cls, evaluation: Evaluation, measured: Sequence[Measured]) -> Overlays:
        """Those of the metrics of one head on one data set."""
        first = measured[0]
        boxes = next((m.metric for m in measured if isinstance(m.metric, BoxMetric)), None)
        masks = next((m.metric for m in measured if isinstance(m.metric, MaskMetric)), None)
        named = max((class_names(one.metric) for one in measured), key=len)
        classes = dict(enumerate(named)) if masks is None else drawn_classes(masks)
        bits = masks is not None and masks.multilabel
        if bits:
            classes = {bit: name for bit, name in classes.items() if bit < BITS}
        maps = evaluation.maps.get((first.data, first.head), {})
        return cls(first.data, classes, bits, boxes, maps)

    def view(
        self, image_id: int, title: str = "", region: Box | None = None, marked: Box | None = None
    ) -> View:
        """An image with what is annotated and predicted in it.

        Args:
            image_id: The image.
            title: See `View`.
            region: What is shown of the image.
            marked: See `View`.
        """
        shown = self.maps.get(image_id)
        truth, found = self._boxes(image_id)
        return View(
            image=ImageKey(self.data, image_id, None if shown is None else shown.slice, region),
            title=title,
            truth=truth,
            found=found,
            masks=b"" if shown is None else shown.png,
            marked=marked,
        )

    def gallery(self, title: str, about: str, pictures: Sequence[Picture]) -> Shown:
        """Pictures whose views are of this head."""
        return Shown(title, about, pictures, self.classes, self.bits, self._thresholds())

    def _thresholds(self) -> dict[int, float]:
        """The measured score from which the detections of each label are kept."""
        if self.boxes is None or not (facts := self.boxes.facts()):
            return {}
        of_labels = threshold_of_classes(facts, self.boxes.names, otherwise=0.5)
        return dict(enumerate(of_labels.tolist()))

    @cached_property
    def _rows(self) -> tuple[Detections, Annotated]:
        """The boxes of all images, sorted once."""
        assert self.boxes is not None
        return self.boxes.computed()

    def _boxes(self, image_id: int) -> tuple[list[tuple[Box, int]], list[tuple[Box, int, float]]]:
        if self.boxes is None:
            return [], []
        detections, truth = self._rows
        place = int(np.searchsorted(self.boxes.image_ids(), image_id))
        mine = slice(*np.searchsorted(truth.image, (place, place + 1)))
        annotated = [
            (_box(box), int(label))
            for box, label in zip(truth.boxes[mine], truth.labels[mine], strict=True)
        ]
        own = slice(*np.searchsorted(detections.image, (place, place + 1)))
        rows = zip(
            *(detections.boxes[own], detections.labels[own], detections.scores[own]), strict=True
        )
        found = [(_box(b), int(k), float(s)) for b, k, s in rows if s >= LEAST_SCORE]
        found.sort(key=lambda one: -one[2])
        return annotated, found[:MOST_BOXES]


def _box(row: NDArray[np.float64]) -> Box:
    x1, y1, x2, y2 = row.tolist()
    return x1, y1, x2, y2
