"""What became of every detection and annotated box, from which all analyses are computed.

Shape letters: N images, D detections, M annotated boxes, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.coco_matching import Matches, limited, match_overlaps
from densekit.metrics.detection.overlaps import Overlaps, overlaps
from densekit.metrics.thresholds import Scored

IOU = 0.5
"""From which a detection has found a box."""


@dataclass(frozen=True)
class Nearest:
    """The box that each detection overlaps most, of some of the annotated ones.

    Attributes:
        box: (D,) its row, the first among equals; -1 for none.
        iou: (D,), 0 for none.
    """

    box: NDArray[np.int64]
    iou: NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """An evaluation of boxes, matched at an IoU of 0.5 as COCO does.

    Attributes:
        names: K class names.
        image_ids: (N,) ascending.
        detections: D, those that the protocol looks at, by image, class and falling score.
        truth: M; what is in `crowd` is no object, and takes in any number of detections.
        overlaps: Of them.
        target: (D,) row of the annotated box that each detection found, -1 for none.
        unjudged: (D,) whether a detection counts only if it is right.
    """

    names: list[str]
    image_ids: NDArray[np.int64]
    detections: Detections
    truth: Annotated
    overlaps: Overlaps
    target: NDArray[np.int64]
    unjudged: NDArray[np.bool_]

    @cached_property
    def counts(self) -> NDArray[np.bool_]:
        """(D,) False in a crowd region, where a detection counts neither way."""
        in_crowd = np.append(self.truth.crowd, False)[self.target]
        return ~in_crowd & ((self.target >= 0) | ~self.unjudged)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(D,) whether the detection found an object."""
        return (self.target >= 0) & self.counts

    @cached_property
    def is_object(self) -> NDArray[np.bool_]:
        """(M,)."""
        return ~self.truth.crowd

    @cached_property
    def finder(self) -> NDArray[np.int64]:
        """(M,) row of the detection that found each object, -1 for none."""
        finder = np.full(len(self.truth.labels), -1)
        finder[self.target[self.right]] = np.flatnonzero(self.right)
        return finder

    @cached_property
    def same(self) -> Nearest:
        """Among the objects of the detection's class, found or not."""
        return self._nearest(same_class=True)

    @cached_property
    def other(self) -> Nearest:
        """Among the objects of other classes."""
        return self._nearest(same_class=False)

    def scored(self) -> Iterator[tuple[str, Scored]]:
        """Name and scores of every class, for thresholds."""
        for label, name in enumerate(self.names):
            chosen = self.counts & (self.detections.labels == label)
            objects = int((self.is_object & (self.truth.labels == label)).sum())
            yield name, Scored(self.detections.scores[chosen], self.right[chosen], objects)

    def _nearest(self, same_class: bool) -> Nearest:
        of_class = (
            self.detections.labels[self.overlaps.detection] == self.truth.labels[self.overlaps.box]
        )
        pairs = self.overlaps.of(
            self.is_object[self.overlaps.box] & (of_class if same_class else ~of_class)
        )
        box, iou = np.full(len(self.target), -1), np.zeros(len(self.target))
        order = np.lexsort((pairs.box, -pairs.iou, pairs.detection))
        detection, first = np.unique(pairs.detection[order], return_index=True)
        box[detection], iou[detection] = pairs.box[order][first], pairs.iou[order][first]
        return Nearest(box, iou)


def match_outcomes(
    names: list[str],
    image_ids: NDArray[np.int64],
    detections: Detections,
    truth: Annotated,
    max_detections: int,
    unjudged: NDArray[np.bool_],
) -> Outcomes:
    """Matches an evaluation.

    Args:
        names: K class names.
        image_ids: (N,) ascending.
        detections: All of it, in ascending order of image.
        truth: All annotated boxes of it, likewise.
        max_detections: Maximum number of detections per image and class.
        unjudged: See `Outcomes`, of all detections.
    """
    rows = limited(detections, max_detections)
    kept = detections.of(rows)
    found = overlaps(kept, truth)
    matches: Matches = match_overlaps(rows, found, detections, truth, np.array([IOU]))
    target = matches.target[0]
    return Outcomes(names, image_ids, kept, truth, found, target, unjudged[rows])
