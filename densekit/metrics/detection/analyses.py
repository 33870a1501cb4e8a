"""Everything that is said about an evaluation of boxes beyond its numbers, in reading order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densekit.metrics.analyses import Analysis
from densekit.metrics.detection.calibration import calibration_analyses
from densekit.metrics.detection.coco_protocol import measure, shapes_of
from densekit.metrics.detection.confusion import confusion_analyses
from densekit.metrics.detection.curves import curve_analyses, marks
from densekit.metrics.detection.groups import group_analyses
from densekit.metrics.detection.outcomes import Outcomes
from densekit.metrics.detection.tide import error_analyses
from densekit.metrics.thresholds import threshold_of_classes

CONFIDENT = 0.5
"""Threshold of detections if none was measured."""


def detection_analyses(outcomes: Outcomes, facts: Mapping[str, Any]) -> list[Analysis]:
    """Explains an evaluation; there is nothing to say without an object.

    Args:
        outcomes: The evaluation.
        facts: Its thresholds, see `densekit.metrics.thresholds.measured_thresholds`.
    """
    if not outcomes.is_object.any():
        return []
    detections, truth = outcomes.detections, outcomes.truth
    tables = measure(
        len(outcomes.image_ids),
        len(outcomes.names),
        shapes_of(truth, truth.area),
        truth.crowd,
        shapes_of(detections),
        detections.scores,
        max_detections=max(1, len(detections.scores)),  # they are limited already
    )
    measured = marks(facts)
    thresholds = threshold_of_classes(facts, outcomes.names, CONFIDENT)
    confident = detections.scores >= thresholds[detections.labels]
    return [
        *error_analyses(outcomes),
        *group_analyses(outcomes, tables, thresholds, measured),
        *curve_analyses(outcomes, tables, measured),
        *confusion_analyses(outcomes, confident),
        *calibration_analyses(outcomes),
    ]
