"""Precision and recall of contours.

Shape letters: N images, K classes, D spatial dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from densekit.metrics.means import Values, column_means, mean
from densekit.metrics.segmentation.mask_metric import MaskMetric
from densekit.metrics.segmentation.mask_pair import Mask, MaskPair
from densekit.metrics.segmentation.surfaces import border, crop, nearest, points


class BoundaryF(MaskMetric):
    """F-measure of contours within a tolerance (Csurka et al. 2013, section 3; Perazzi 2016).

    `boundary_F`: the mean over images of the mean over the classes of the image, the background
    among them. `boundary_F/NAME`: the mean over the images that have the class.

    Precision is the share of the predicted contour that lies within the tolerance of the true
    one, recall the converse. The contour is the class's pixels with a neighbour (4 in images, 6
    in volumes) of another class; the frame of the image is none. A class that is neither in truth
    nor in prediction is NaN and left out (`boundary_F_left_out` counts them), one that is in only
    one of them has 0, one without a contour (it fills the image) has 1 if it does so in both.
    Pixels of value 255 belong to no class: where they lie along every contour (VOC) only what goes
    beyond them is measured.

    Args:
        names: Class names, one a label 0..K-1.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent or exclusive.
        tolerance: As a share of the image's diagonal, rounded up to whole pixels.
        **kwargs: Of `torchmetrics.Metric`.
    """

    columns = 1

    def __init__(
        self,
        names: Sequence[str],
        *,
        background: bool = False,
        multilabel: bool = False,
        tolerance: float = 0.0075,
        **kwargs: Any,
    ) -> None:
        super().__init__(names, background=background, multilabel=multilabel, **kwargs)
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance: expected a number in [0, 1), got {tolerance}")
        self.tolerance = tolerance

    def measure(self, pair: MaskPair) -> Values:
        """(K, 1): the F-measure."""
        reach = math.ceil(self.tolerance * math.hypot(*pair.size))
        f = [contour_f(*crop(*pair.of(label)), reach) for label in self.labels]
        return np.array(f, dtype=np.float64)[:, None]

    def aggregate(self, values: Values) -> dict[str, float]:
        """The numbers named above; see `MaskMetric.aggregate`."""
        f = values[..., 0]  # (N, K)
        return {
            "boundary_F": mean(column_means(f.T)),
            "boundary_F_left_out": float(np.isnan(f).sum()),
            **self.per_class("boundary_F", column_means(f)),
        }

    def case_metrics(self, values: Values) -> dict[str, float]:
        """`boundary_F` and `boundary_F/NAME` of one image."""
        f = values[:, 0]
        return {"boundary_F": mean(f), **self.per_class("boundary_F", f)}


def contour_f(truth: Mask, predicted: Mask, reach: int) -> float:
    """F-measure of the contours of two masks (*S).

    Args:
        truth: Cut to what is set, see `crop`.
        predicted: Likewise, by the same box.
        reach: Distance in pixels at which two pixels of contours still belong together.
    """
    if not (truth.any() and predicted.any()):
        return 0.0 if truth.size else math.nan
    unit = (1.0,) * truth.ndim
    ours, theirs = (points(border(mask, beyond=True), unit) for mask in (predicted, truth))
    if not (len(ours) and len(theirs)):
        return float(len(ours) == len(theirs))
    precision = (nearest(ours, theirs, reach) <= reach).mean()
    recall = (nearest(theirs, ours, reach) <= reach).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
