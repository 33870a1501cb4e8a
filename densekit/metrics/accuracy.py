"""Accuracy of exclusive classes, and their confusion matrix.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.category_pair import category_pair
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.means import Values, mean, ratio
from densekit.metrics.rows import check_names
from densekit.types import Result, Truth


class Accuracy(ImageMetric):
    """Share of the images whose class is the most probable one.

    `accuracy`: over all images.
    `top5`, where there are more than five classes: the class is among the five most probable.
    `mean_accuracy`: mean over classes of `accuracy/NAME`, the share of a class's images (recall).
    `mean_accuracy_left_out` counts the classes without an image, which are NaN.

    Of equal probabilities that of the first class counts as the larger.

    Args:
        names: Class names, one a label 0..K-1.
        **kwargs: Of `torchmetrics.Metric`.
    """

    top = 5
    width = 4  # class, predicted class, rank of the class among the probabilities, confidence

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = check_names(names)

    def row(self, result: Result, truth: Truth) -> Values:
        """(4,), see `width`; the rank of the most probable class is 0."""
        probabilities, category = category_pair(result, truth, len(self.names))
        own, predicted = probabilities[category], int(probabilities.argmax())
        before = (probabilities > own).sum() + (probabilities[:category] == own).sum()
        return np.array([category, predicted, before, probabilities[predicted]], dtype=np.float64)

    def aggregate_rows(self, table: Values) -> dict[str, float]:
        """The numbers named above."""
        place, count = table[:, 2], np.array(len(table))
        confusion = _confusion(table, len(self.names))
        of_classes = ratio(confusion.diagonal(), confusion.sum(1))
        metrics = {"accuracy": float(ratio((place == 0).sum(), count))}
        if len(self.names) > self.top:
            metrics[f"top{self.top}"] = float(ratio((place < self.top).sum(), count))
        metrics["mean_accuracy"] = mean(of_classes)
        metrics["mean_accuracy_left_out"] = float(np.isnan(of_classes).sum())
        return metrics | {
            f"accuracy/{name}": float(value)
            for name, value in zip(self.names, of_classes, strict=True)
        }

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) images by their class (row) and the predicted one (column), as last computed."""
        return _confusion(self.computed()[1], len(self.names))

    def cases(self) -> list[dict[str, Any]]:
        """A row for each image of all processes, by ascending `image_id`, as last computed."""
        return [
            {
                "image_id": int(image),
                "category": self.names[int(category)],
                "predicted": self.names[int(predicted)],
                "right": float(category == predicted),
                "confidence": float(confidence),
                "place": int(place) + 1,
            }
            for image, (category, predicted, place, confidence) in zip(
                *self.computed(), strict=True
            )
        ]


def _confusion(table: Values, num_classes: int) -> NDArray[np.int64]:
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (table[:, 0].astype(np.intp), table[:, 1].astype(np.intp)), 1)
    return counts
