"""Whether four in five detections of a score of 0.8 are right.

Shape letters: D detections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Table
from densekit.metrics.detection.outcomes import Outcomes
from densekit.metrics.means import Values
from densekit.metrics.reliability import binned, calibration_error, reliability

BINS = 20


def detection_ece(scores: Values, right: NDArray[np.bool_]) -> float:
    """D-ECE over the score; NaN without detections.

    Küppers et al. 2020, "Multivariate confidence calibration for object detection", equation 5 with
    the score as its one dimension: the mean over detections of the distance between the precision
    and the mean score of the detection's bin.

    Args:
        scores: (D,) 0..1.
        right: (D,).
    """
    return float(calibration_error(binned(scores, right, BINS)))


def calibration_analyses(outcomes: Outcomes) -> list[Analysis]:
    """The reliability of all detections, and D-ECE by class."""
    counts = outcomes.counts
    scores, right = outcomes.detections.scores[counts], outcomes.right[counts]
    diagram = reliability({"all classes": binned(scores, right, BINS)}, "detections")
    about = (
        f"D-ECE {detection_ece(scores, right):.4f} (Küppers et al. 2020): the mean distance between"
        f" precision and score, in {BINS} bins; a detection is right from an IoU of 0.5 on. All"
        f" detections that were kept count, so most have a low score. {diagram.about}"
    )
    headers = ("class", "detections", "D-ECE")
    return [
        replace(diagram, about=about),
        Table("Calibration by class", headers, list(_by_class(outcomes))),
    ]


def _by_class(outcomes: Outcomes) -> Iterator[tuple[str, int, float]]:
    for label, name in enumerate(outcomes.names):
        chosen = outcomes.counts & (outcomes.detections.labels == label)
        if chosen.any():
            error = detection_ece(outcomes.detections.scores[chosen], outcomes.right[chosen])
            yield name, int(chosen.sum()), error
