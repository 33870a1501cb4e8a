"""Accuracy of exclusive classes, and their confusion matrix.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Curves, Suspect, Table
from densekit.metrics.class_tables import cell, confusion_matrix
from densekit.metrics.classification.category_pair import category_pair
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.label_errors import MOST, confident_errors
from densekit.metrics.means import Values, mean, ratio
from densekit.metrics.rows import check_names
from densekit.metrics.score_curves import precision_recall, thinned
from densekit.metrics.thresholds import Scored
from densekit.types import Result, Truth


class Accuracy(ImageMetric):
    """Share of the images whose class is the most probable one.

    `accuracy`: over all images.
    `top5`, where there are more than five classes: the class is among the five most probable.
    `mean_accuracy`: mean over classes of `accuracy/NAME`, the share of a class's images (recall).
    `mean_accuracy_left_out` counts the classes without an image, which are NaN.
    `F1`: mean over classes of the harmonic mean of precision and recall (scikit-learn's macro F1;
    the micro F1 of exclusive classes is the accuracy). A class neither in the annotation nor in the
    predictions is left out.

    Of equal probabilities that of the first class counts as the larger.

    Args:
        names: Class names, one a label 0..K-1.
        **kwargs: Of `torchmetrics.Metric`.
    """

    top = 5
    width = 5  # class, predicted class, rank of the class, confidence, probability of the class

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = check_names(names)

    def row(self, result: Result, truth: Truth) -> Values:
        """(4,), see `width`; the rank of the most probable class is 0."""
        probabilities, category = category_pair(result, truth, len(self.names))
        own, predicted = probabilities[category], int(probabilities.argmax())
        before = (probabilities > own).sum() + (probabilities[:category] == own).sum()
        row = [category, predicted, before, probabilities[predicted], own]
        return np.array(row, dtype=np.float64)

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
        metrics["F1"] = mean(_f1(confusion))
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
            for image, (category, predicted, place, confidence, _) in zip(
                *self.computed(), strict=True
            )
        ]

    def analyses(self) -> list[Analysis]:
        """Confusion matrix, classes, what a threshold on the confidence would leave."""
        table = self.computed()[1]
        confusion = _confusion(table, len(self.names))
        return [
            confusion_matrix(self.names, confusion, "images"),
            self._classes(confusion),
            precision_recall(self._scored(table)),
            _over_coverage(table),
        ]

    def suspects(self) -> list[Suspect]:
        """Images whose label a confident prediction contradicts, see `confident_errors`."""
        ids, table = self.computed()
        category, predicted = table[:, :2].astype(np.int64).T
        wrong = confident_errors(category, table[:, 4], predicted, table[:, 3], len(self.names))
        return [
            Suspect(
                int(ids[place]),
                f"labelled {self.names[category[place]]!r}, predicted"
                f" {self.names[predicted[place]]!r} with {table[place, 3]:.2f}",
                float(1 - table[place, 4]),
            )
            for place in wrong[:MOST]
        ]

    def _classes(self, confusion: NDArray[np.int64]) -> Table:
        right, true, found = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        columns = (true, ratio(right, found), ratio(right, true), _f1(confusion))
        rows = [
            (name, int(number), *map(cell, values), self._mixed_up(label, confusion[label]))
            for label, (name, number, *values) in enumerate(zip(self.names, *columns, strict=True))
        ]
        head = ("class", "images", "precision", "recall", "F1", "most often taken for")
        return Table("Classes", head, rows)

    def _mixed_up(self, label: int, row: NDArray[np.int64]) -> str:
        others = row.copy()
        others[label] = 0
        return f"{self.names[int(others.argmax())]} ({others.max()})" if others.any() else ""

    def _scored(self, table: Values) -> dict[str, Scored]:
        """The predictions of each class by their confidence."""
        category, predicted, _, confidence, _ = table.T
        return {
            name: Scored(
                confidence[predicted == label],
                category[predicted == label] == label,
                int((category == label).sum()),
            )
            for label, name in enumerate(self.names)
        }


def _confusion(table: Values, num_classes: int) -> NDArray[np.int64]:
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (table[:, 0].astype(np.intp), table[:, 1].astype(np.intp)), 1)
    return counts


def _f1(confusion: NDArray[np.int64]) -> Values:
    return ratio(2 * confusion.diagonal(), confusion.sum(0) + confusion.sum(1))


def _over_coverage(table: Values) -> Curves:
    """Accuracy of the most confident images, over their share."""
    order = np.argsort(-table[:, 3], kind="stable")
    right = (table[order, 2] == 0).cumsum()
    count = np.arange(1, len(table) + 1)
    places = thinned(len(table))
    line = (count[places] / max(1, len(table)), right[places] / count[places])
    return Curves(
        title="Accuracy of what is left if the least confident images are refused",
        x="share of the images that is answered",
        y="accuracy",
        lines={"all classes": line},
    )
