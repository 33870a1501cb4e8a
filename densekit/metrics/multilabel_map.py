"""Mean average precision of independent labels.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from densekit.metrics.category_pair import label_pair
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.means import Values, mean
from densekit.metrics.rows import check_names
from densekit.types import Result, Truth


class MultilabelMap(ImageMetric):
    """Average precision of every label, ranked over all images.

    `mAP`: mean over labels of `AP/NAME`, the sum of precision times the step of recall over all
    thresholds, without interpolation (scikit-learn's). `mAP_left_out` counts the labels that no
    image has, which are NaN.

    Args:
        names: Label names, one a class 0..K-1.
        **kwargs: Of `torchmetrics.Metric`.
    """

    nothing = "no label in them"

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = check_names(names)

    @property
    def width(self) -> int:
        """K probabilities and K labels."""
        return 2 * len(self.names)

    def row(self, result: Result, truth: Truth) -> Values:
        """(2 K,), see `width`."""
        return np.concatenate(label_pair(result, truth, len(self.names)))

    def aggregate_rows(self, table: Values) -> dict[str, float]:
        """The numbers named above."""
        probabilities, labels = np.split(table, 2, axis=1)  # (N, K) each
        pairs = zip(probabilities.T, labels.T, strict=True)
        of_labels = np.array([_average_precision(*pair) for pair in pairs])  # (K,)
        return {
            "mAP": mean(of_labels),
            "mAP_left_out": float(np.isnan(of_labels).sum()),
            **{f"AP/{name}": float(v) for name, v in zip(self.names, of_labels, strict=True)},
        }


def _average_precision(probability: Values, label: Values) -> float:
    """Of (N,) images and one label; NaN if none has it."""
    if not label.any():
        return float("nan")
    from torch import from_numpy
    from torchmetrics.functional.classification import binary_average_precision

    found = binary_average_precision(
        from_numpy(probability.copy()), from_numpy(label).long(), validate_args=False
    )
    return float(found)
