"""Mean average precision of independent labels.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from densekit.metrics.analyses import Analysis, Suspect, Table
from densekit.metrics.class_tables import cell
from densekit.metrics.classification.category_pair import label_pair
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.label_errors import MOST, confident_errors
from densekit.metrics.means import Values, column_means, mean, ratio
from densekit.metrics.protocols import Draws
from densekit.metrics.reliability import binned, bins_of, calibration_error, reliability
from densekit.metrics.rows import check_names
from densekit.metrics.score_curves import over_scores, precision_recall
from densekit.metrics.thresholds import Scored, check_precision, measured_thresholds
from densekit.types import Result, Truth


class MultilabelMap(ImageMetric):
    """Average precision of every label, ranked over all images, and F1 of what is decided.

    `mAP`: mean over labels of `AP/NAME`, the sum of precision times the step of recall over all
    thresholds, without interpolation (scikit-learn's, macro). `mAP_micro`: of all labels ranked
    together. `mAP_left_out` counts the labels that no image has, which are NaN.
    `F1`, `F1_micro`: of the labels that results decide for (from the head's threshold on, 0.5
    without), the mean over labels, and over all answers together. A label neither in the annotation
    nor decided for is left out.
    `ECE`: mean over labels of the expected calibration error of their probability.

    Args:
        names: Label names, one a class 0..K-1.
        num_bins: Of the calibration error.
        min_precision: Measure the lowest thresholds of this precision in place of the best F1.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: There is no bin, or the precision is none.
    """

    nothing = "no label in them"

    def __init__(
        self,
        names: Sequence[str],
        *,
        num_bins: int = 15,
        min_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_bins < 1:
            raise ValueError(f"MultilabelMap.num_bins: expected at least 1, got {num_bins}")
        check_precision(min_precision, "MultilabelMap.min_precision")
        self.names = check_names(names)
        self.num_bins, self.min_precision = num_bins, min_precision

    @property
    def width(self) -> int:
        """K probabilities, K labels, and K answers."""
        return 3 * len(self.names)

    def row(self, result: Result, truth: Truth) -> Values:
        """(3 K,), see `width`."""
        probabilities, labels = label_pair(result, truth, len(self.names))
        decided = np.zeros(len(self.names))
        decided[result.get("labels", probabilities >= 0.5)] = 1
        return np.concatenate([probabilities, labels, decided])

    def aggregate_rows(self, table: Values) -> dict[str, float]:
        """The numbers named above."""
        probabilities, labels, decided = np.split(table, 3, axis=1)  # (N, K) each
        pairs = list(zip(probabilities.T, labels.T, strict=True))
        of_labels = np.array([_average_precision(*pair) for pair in pairs])  # (K,)
        both, either = (labels * decided).sum(0), (labels + decided).sum(0)
        errors = np.array([calibration_error(binned(*pair, self.num_bins)) for pair in pairs])
        return {
            "mAP": mean(of_labels),
            "mAP_micro": _average_precision(probabilities.reshape(-1), labels.reshape(-1)),
            "mAP_left_out": float(np.isnan(of_labels).sum()),
            "F1": mean(ratio(2 * both, either)),
            "F1_micro": float(ratio(2 * both.sum(), either.sum())),
            "ECE": mean(errors),
            **{f"AP/{name}": float(v) for name, v in zip(self.names, of_labels, strict=True)},
        }

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """Every metric but `mAP_micro` of every draw of images; see `HasResamples`."""
        weights = draws.astype(np.float64)  # (R, N)
        probabilities, labels, decided = np.split(self.computed()[1], 3, axis=1)
        pairs = list(zip(probabilities.T, labels.T, strict=True))
        areas = np.stack([_drawn_precision(*pair, weights) for pair in pairs])  # (K, R)
        both, either = weights @ (labels * decided), weights @ (labels + decided)  # (R, K)
        errors = np.stack([self._drawn_errors(*pair, weights) for pair in pairs])  # (K, R)
        return {
            "mAP": column_means(areas),
            "F1": column_means(ratio(2 * both, either).T),
            "F1_micro": ratio(2 * both.sum(1), either.sum(1)),
            "ECE": column_means(errors),
            **{f"AP/{name}": area for name, area in zip(self.names, areas, strict=True)},
        }

    def facts(self) -> dict[str, Any]:
        """`best_thresholds`, see `measured_thresholds`."""
        return measured_thresholds(self._scored(), "the level of images", self.min_precision)

    def analyses(self) -> list[Analysis]:
        """Labels, precision, recall and F1 over the threshold, reliability."""
        scored = self._scored()
        probabilities, labels, _ = np.split(self.computed()[1], 3, axis=1)
        counts = {
            name: binned(likely, label, self.num_bins)
            for name, likely, label in zip(self.names, probabilities.T, labels.T, strict=True)
        }
        return [
            self._labels(),
            precision_recall(scored),
            over_scores(scored, "probability"),
            reliability(counts, "images that have the label"),
        ]

    def suspects(self) -> list[Suspect]:
        """Images with or without a label that a confident prediction contradicts."""
        ids, table = self.computed()
        found = []
        probabilities, labels, _ = np.split(table, 3, axis=1)
        for name, likely, there in zip(self.names, probabilities.T, labels.T, strict=True):
            label = there.astype(np.int64)
            own = np.where(label == 1, likely, 1 - likely)
            for place in confident_errors(label, own, 1 - label, 1 - own, 2)[:MOST]:
                what = f"labelled {name!r}" if label[place] else f"not labelled {name!r}"
                reason = f"{what}, predicted with {likely[place]:.2f}"
                found.append(Suspect(int(ids[place]), reason, float(1 - own[place])))
        return sorted(found, key=lambda one: -one.confidence)[:MOST]

    def _drawn_errors(self, likely: Values, label: Values, weights: Values) -> Values:
        """(R,) calibration error of one label in each draw."""
        bins = np.eye(self.num_bins)[bins_of(likely, self.num_bins)]  # (N, M)
        counts = [weights @ (bins * of[:, None]) for of in (np.ones(len(bins)), label, likely)]
        return calibration_error(np.stack(counts, axis=1))

    def _scored(self) -> dict[str, Scored]:
        probabilities, labels, _ = np.split(self.computed()[1], 3, axis=1)
        return {
            name: Scored(likely, label, int(label.sum()))
            for name, likely, label in zip(self.names, probabilities.T, labels.T, strict=True)
        }

    def _labels(self) -> Table:
        probabilities, labels, decided = np.split(self.computed()[1], 3, axis=1)
        true, found, both = labels.sum(0), decided.sum(0), (labels * decided).sum(0)
        areas = [_average_precision(*p) for p in zip(probabilities.T, labels.T, strict=True)]
        best = self.facts().get("best_thresholds", {"overall": None, "classes": {}})
        columns = (areas, ratio(both, found), ratio(both, true), ratio(2 * both, true + found))
        rows = [
            (name, int(n), *map(cell, values), best["classes"].get(name, best["overall"]))
            for name, n, *values in zip(self.names, true, *columns, strict=True)
        ]
        head = ("label", "images", "AP", "precision", "recall", "F1", "best threshold")
        about = "Precision, recall, F1: of the labels decided for. Best threshold: of these images."
        return Table("Labels", head, rows, about)


def _average_precision(probability: Values, label: Values) -> float:
    """Of (N,) answers; NaN if the label is nowhere."""
    return float(_drawn_precision(probability, label, np.ones((1, len(label))))[0])


def _drawn_precision(probability: Values, label: Values, weights: Values) -> Values:
    """(R,) average precision of draws in which N images count (R, N) times."""
    order = np.argsort(-probability, kind="stable")
    last = np.flatnonzero(np.diff(probability[order], append=-np.inf))
    times = weights[:, order]
    right = np.cumsum(times * label[order], axis=1)[:, last]
    seen = np.cumsum(times, axis=1)[:, last]
    steps = np.diff(right, axis=1, prepend=0)
    area = np.nansum(steps * ratio(right, seen), axis=1)
    return ratio(area, right[:, -1] if len(last) else np.zeros(len(weights)))
