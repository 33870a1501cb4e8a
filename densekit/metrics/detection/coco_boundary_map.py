"""COCO average precision of masks by the overlap of their rims."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Suspect
from densekit.metrics.detection.boundary_ap import measure_boundaries, rim_iou
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.coco_mask_map import CocoMaskMap
from densekit.metrics.detection.coco_protocol import nothing_measured, shapes_of, summarize
from densekit.metrics.detection.object_masks import ObjectMasks


class RimMasks(ObjectMasks):
    """Masks whose overlap is the smaller one of those of their areas and of their rims."""

    def iou(self, others: ObjectMasks, crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N, M), see `ObjectMasks.iou`; a crowd region keeps the overlap of the areas."""
        return rim_iou(super().iou(others, crowd), list(self.runs), list(others.runs), crowd)


class CocoBoundaryMap(CocoMaskMap):
    """The numbers of `CocoMap` for rims of masks, see `densekit.metrics.detection.boundary_ap`.

    The keys are `boundary_AP`, `boundary_AP50`, ..., `boundary_AP/NAME`. It is beside the others
    for comparison: it explains nothing of its own.

    Args: those of `CocoMap`.
    """

    shape: ClassVar[str] = "boundary"
    overlap: ClassVar[type[ObjectMasks]] = RimMasks

    def aggregate(
        self, num_images: int, detections: Detections, truth: Annotated
    ) -> dict[str, float]:
        """The numbers named above; see `BoxMetric.aggregate`."""
        if truth.labels.size == 0:
            return nothing_measured(self.names, self.max_detections)
        assert truth.masks is not None
        sizes = [(1, 1)] * num_images  # of images without objects, which are not looked at
        for image, runs in zip(truth.image.tolist(), truth.masks.runs, strict=True):
            sizes[image] = tuple(runs["size"])
        tables = measure_boundaries(
            sizes,
            len(self.names),
            shapes_of(truth, truth.area),
            truth.crowd,
            shapes_of(detections),
            detections.scores,
            max_detections=self.max_detections,
        )
        return summarize(tables, self.names)

    def analyses(self) -> list[Analysis]:
        """None."""
        return []

    def suspects(self) -> list[Suspect]:
        """None."""
        return []
