"""Whether four in five detections of a score of 0.8 are right.

Shape letters: D detections, M bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Curves, Table
from densekit.metrics.detection_outcomes import Outcomes
from densekit.metrics.means import Values, ratio

BINS = 20


def reliability(scores: Values, right: NDArray[np.bool_]) -> tuple[Values, Values, NDArray[Any]]:
    """Bins of equal width over the scores.

    Args:
        scores: (D,) 0..1.
        right: (D,).

    Returns:
        (M,) mean score, (M,) share that is right, both NaN in an empty bin, and (M,) number.
    """
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    where = np.digitize(scores, edges, right=True)
    weights = (np.ones(len(scores)), scores, right.astype(np.float64))
    number, sums, hits = (np.bincount(where, weights=w, minlength=BINS) for w in weights)
    return ratio(sums, number), ratio(hits, number), number


def detection_ece(scores: Values, right: NDArray[np.bool_]) -> float:
    """D-ECE over the score; NaN without detections.

    Küppers et al. 2020, "Multivariate confidence calibration for object detection", equation 5 with
    the score as its one dimension: the mean over detections of the distance between the precision
    and the mean score of the detection's bin.
    """
    confidence, precision, number = reliability(scores, right)
    if not len(scores):
        return float("nan")
    return float(np.nansum(number * np.abs(precision - confidence)) / len(scores))


def calibration_analyses(outcomes: Outcomes) -> list[Analysis]:
    """The reliability of all detections, and D-ECE by class."""
    counts = outcomes.counts
    scores, right = outcomes.detections.scores[counts], outcomes.right[counts]
    labels = outcomes.detections.labels[counts]
    confidence, precision, number = reliability(scores, right)
    there = number > 0
    rows: list[tuple[str, int, float]] = []
    for label, name in enumerate(outcomes.names):
        of_class = labels == label
        if of_class.any():
            error = detection_ece(scores[of_class], right[of_class])
            rows.append((name, int(of_class.sum()), error))
    about = (
        f"D-ECE {detection_ece(scores, right):.4f} (Küppers et al. 2020): the mean distance between"
        f" precision and score, in {BINS} bins; a detection is right from an IoU of 0.5 on. Below"
        " the diagonal the model is too sure. All detections that were kept count, so most have a"
        " low score."
    )
    lines = {"all classes": (confidence[there], precision[there])}
    title, headers = "Reliability of the scores", ("class", "detections", "D-ECE")
    return [
        Curves(title, "score", "precision", lines, about, diagonal=True),
        Table("Calibration by class", headers, rows),
    ]
