"""LVIS average precision of the masks of objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.lvis_map import LvisMap
from densekit.metrics.detection.object_mask_metric import MASK_STATES, ObjectMaskMetric
from densekit.metrics.protocols import Draws


class LvisMaskMap(ObjectMaskMetric, LvisMap):
    """The numbers of `LvisMap` for masks, equal to lvis-api's `segm`.

    The keys are `mask_AP`, `mask_AP50`, ..., `mask_APr`, ..., `mask_AP/NAME`.

    Args: those of `LvisMap`.
    """

    kept = (*LvisMap.kept, *MASK_STATES)

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """See `LvisMap.resampled`, each name after `shape`."""
        return self.prefixed(super().resampled(draws))
