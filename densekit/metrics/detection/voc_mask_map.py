"""Pascal VOC average precision by the overlap of masks, in both of its definitions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.object_mask_metric import MASK_STATES, ObjectMaskMetric
from densekit.metrics.detection.voc_map import VocMap
from densekit.metrics.protocols import Draws


class VocMaskMap(ObjectMaskMetric, VocMap):
    """The numbers of `VocMap` for masks (APr of Hariharan et al. 2014, "SDS").

    The keys are `mask_VOC07_AP50`, `mask_VOC10_AP50`, ..., and those of classes.

    Args: those of `VocMap`.
    """

    kept = (*VocMap.kept, *MASK_STATES)

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """See `VocMap.resampled`, each name after `shape`."""
        return self.prefixed(super().resampled(draws))
