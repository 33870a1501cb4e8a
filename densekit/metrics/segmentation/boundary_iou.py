"""IoU of the rims of classes, which large areas cannot make look good.

Shape letters: N images, K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_cdt

from densekit.metrics.means import Values, mean, ratio
from densekit.metrics.segmentation.mask_metric import MaskMetric
from densekit.metrics.segmentation.mask_pair import Mask, MaskPair
from densekit.metrics.segmentation.surfaces import crop


class BoundaryIoU(MaskMetric):
    """IoU of the pixels of a class near its contour (Cheng et al. 2021, section 5).

    `boundary_IoU/NAME`: the rims of truth and prediction, pooled over the data set like `mIoU`.
    `boundary_IoU`: mean over classes, the background among them.

    Near means at most `dilation_ratio` of the image's diagonal, rounded to whole pixels and at
    least one, counted in steps to any neighbour; the frame of the image is a contour, as in the
    authors' code. A class that is neither in truth nor in prediction is NaN and left out of the
    mean, one that is in only one of them has 0. Pixels of value 255 belong to no class: where they
    lie along every contour (VOC) only what goes beyond them is measured.

    Args:
        names: Class names, one a label 0..K-1.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent or exclusive.
        dilation_ratio: Width of the rim as a share of the diagonal.
        **kwargs: Of `torchmetrics.Metric`.
    """

    columns = 2

    def __init__(
        self,
        names: Sequence[str],
        *,
        background: bool = False,
        multilabel: bool = False,
        dilation_ratio: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(names, background=background, multilabel=multilabel, **kwargs)
        if not 0 < dilation_ratio < 1:
            raise ValueError(f"dilation_ratio: expected a number in (0, 1), got {dilation_ratio}")
        self.dilation_ratio = dilation_ratio

    def measure(self, pair: MaskPair) -> Values:
        """(K, 2): pixels of the rims' intersection and of their union."""
        width = max(1, round(self.dilation_ratio * math.hypot(*pair.size)))
        rows = []
        for label in self.labels:
            truth, predicted = (rim(mask, width) for mask in crop(*pair.of(label)))
            rows.append(((truth & predicted).sum(), (truth | predicted).sum()))
        return np.array(rows, dtype=np.float64)

    def aggregate(self, values: Values) -> dict[str, float]:
        """The numbers named above; see `MaskMetric.aggregate`."""
        return self.case_metrics(values.sum(0))

    def case_metrics(self, values: Values) -> dict[str, float]:
        """`boundary_IoU` and `boundary_IoU/NAME` of one image."""
        iou = ratio(values[:, 0], values[:, 1])
        return {"boundary_IoU": mean(iou), **self.per_class("boundary_IoU", iou)}


def rim(mask: Mask, width: int) -> Mask:
    """The pixels of a mask (*S) at most `width` steps from outside, diagonal steps included."""
    if not mask.any():
        return mask
    # The distance of a pixel is the number of 3 x 3 erosions that it survives, and one more.
    depth = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")
    inner = depth[(slice(1, -1),) * mask.ndim]
    near: Mask = (inner > 0) & (inner <= width)
    return near
