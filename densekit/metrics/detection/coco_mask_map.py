"""COCO average precision and recall of the masks of objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.coco_map import CocoMap
from densekit.metrics.detection.object_mask_metric import MASK_STATES, ObjectMaskMetric
from densekit.metrics.protocols import Draws


class CocoMaskMap(ObjectMaskMetric, CocoMap):
    """The numbers of `CocoMap` for masks, equal to pycocotools' `segm`.

    The keys are `mask_AP`, `mask_AP50`, ..., `mask_AP/NAME`. The area ranges look at the
    annotation's own area, and for detections at that of the mask (pycocotools takes that of the box
    where a result has both). An object without an outline has an empty mask: it is never found.

    Args: those of `CocoMap`.
    """

    kept = (*CocoMap.kept, *MASK_STATES)

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """See `CocoMap.resampled`, each name after `shape`."""
        return self.prefixed(super().resampled(draws))
