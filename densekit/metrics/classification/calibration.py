"""Whether a network that is 80 % sure is right in 80 % of the cases.

Shape letters: N images, M bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from densekit.metrics.analyses import Analysis
from densekit.metrics.classification.category_pair import category_pair
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.means import Values
from densekit.metrics.reliability import binned, calibration_error, reliability
from densekit.types import Result, Truth


class CalibrationError(ImageMetric):
    """Expected calibration error (Guo et al. 2017, "On calibration of modern neural networks").

    `ECE`: the mean over images of the distance between accuracy and confidence in the image's bin,
    equation 3. The confidence is the largest probability; bins are as wide, closed on their upper
    side, section 2.

    Args:
        num_bins: M.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: There is no bin.
    """

    higher_is_better = False
    width = 2  # confidence, whether it was right

    def __init__(self, num_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_bins < 1:
            raise ValueError(f"CalibrationError.num_bins: expected at least 1, got {num_bins}")
        self.num_bins = num_bins

    def row(self, result: Result, truth: Truth) -> Values:
        """(2,), see `width`."""
        probabilities, category = category_pair(result, truth)
        predicted = int(probabilities.argmax())
        return np.array([probabilities[predicted], predicted == category], dtype=np.float64)

    def aggregate_rows(self, table: Values) -> dict[str, float]:
        """`ECE`."""
        return {"ECE": float(calibration_error(self._counts(table)))}

    def analyses(self) -> list[Analysis]:
        """The reliability diagram."""
        return [reliability({"all classes": self._counts(self.computed()[1])}, "images")]

    def _counts(self, table: Values) -> Values:
        confidence, right = table.T
        return binned(confidence, right, self.num_bins)
