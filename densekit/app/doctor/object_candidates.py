"""Label-error candidates of objects: boxes against the predictions of a detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from densekit.app.doctor.checks.boxes import iou
from densekit.app.doctor.facts import Box

SURE = 0.6
"""Score from which a prediction counts against the annotation."""
AWARE = 0.05
"""Score from which a prediction speaks for an annotated object."""
FOUND = 0.5
"""IoU from which a prediction is of the annotated object, whatever its class."""
FREE = 0.3
"""IoU with every annotated object below which a prediction is of an object of its own."""
APART = 0.1
"""IoU below which a prediction and an annotated object have nothing to do with each other."""
SMALL = 16.0
"""Side in pixels below which an object that is not predicted says nothing about its label."""

Array = NDArray[Any]


class Candidate(NamedTuple):
    """A label that may be wrong.

    Attributes:
        check: Name of the check that reports it.
        message: What was found.
        strength: How sure the model is, 0 to 1.
        box: Where to look, None for the whole image.
    """

    check: str
    message: str
    strength: float
    box: Box | None = None


@dataclass(frozen=True)
class Compared:
    """The objects of one image and what a detector sees; N predictions, M annotated objects.

    Attributes:
        boxes: (N, 4).
        scores: (N,).
        predicted: N class names.
        annotated: (M, 4).
        labels: M class names.
        ignored: (M,) crowds and difficult objects.
        overlap: (N, M) IoU.
    """

    boxes: Array
    scores: Array
    predicted: Sequence[str]
    annotated: Array
    labels: Sequence[str]
    ignored: Array
    overlap: Array

    def sure(self) -> Iterator[int]:
        """Predictions that count, except for those within an ignored object."""
        low = np.maximum(self.boxes[:, None, :2], self.annotated[None, self.ignored, :2])
        high = np.minimum(self.boxes[:, None, 2:], self.annotated[None, self.ignored, 2:])
        common = np.clip(high - low, 0, None).prod(-1).max(axis=1, initial=0.0)
        area = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(-1)
        yield from np.flatnonzero((self.scores >= SURE) & (common < area / 2)).tolist()

    def found(self) -> Array:
        """(M,) whether a prediction confirms where an object is."""
        aware = self.overlap[self.scores >= AWARE]
        confirmed: Array = aware.max(axis=0, initial=0.0) >= FOUND
        return confirmed

    def shown(self, place: int) -> str:
        """A prediction in words."""
        return f"{self.predicted[place]} {self.scores[place]:.2f} at {_rounded(self.boxes[place])}"


def compare_boxes(
    result: Mapping[str, Any], truth: Mapping[str, Any], names: Sequence[str]
) -> list[Candidate]:
    """Candidates of one image: missing, spurious and misplaced objects, and other classes.

    Args:
        result: `boxes` (N, 4), `scores` (N,) and `names` of the prediction.
        truth: `boxes` (M, 4), `labels` (M,), and `crowd` and `difficult` where they are known.
        names: Class names of the annotation.
    """
    image = _compared(result, truth, names)
    found = image.found()
    candidates = [
        candidate for place in image.sure() if (candidate := _of_prediction(image, place, found))
    ]
    return [*candidates, *_unseen(image)]


def _compared(
    result: Mapping[str, Any], truth: Mapping[str, Any], names: Sequence[str]
) -> Compared:
    boxes = np.asarray(result["boxes"], np.float64).reshape(-1, 4)
    annotated = np.asarray(truth["boxes"], np.float64).reshape(-1, 4)
    ignored = np.zeros(len(annotated), bool)
    for key in ("crowd", "difficult"):
        ignored |= np.asarray(truth.get(key, ignored), bool)
    with np.errstate(divide="ignore", invalid="ignore"):  # boxes without area
        overlap = np.nan_to_num(iou(np.concatenate([boxes, annotated])))
    return Compared(
        boxes,
        np.asarray(result["scores"], np.float64),
        names_of(result, names),
        annotated,
        [names[label] for label in np.asarray(truth["labels"]).tolist()],
        ignored,
        overlap[: len(boxes), len(boxes) :],
    )


def names_of(result: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Class name of each prediction, by the model or, where it knows none, by the data."""
    if "names" in result:
        return list(result["names"])
    return [names[label] for label in np.asarray(result["labels"]).tolist()]


def _of_prediction(image: Compared, place: int, found: Array) -> Candidate | None:
    """What a sure prediction says against the annotation, None if it agrees."""
    row, name, score = image.overlap[place], image.predicted[place], float(image.scores[place])
    x1, y1, x2, y2 = image.boxes[place].tolist()
    box: Box = (x1, y1, x2, y2)
    best = int(row.argmax()) if len(row) else -1
    if best < 0 or row[best] < FOUND:
        loose = np.where(found, 0.0, row)
        if loose.max(initial=0.0) >= APART:
            moved = int(loose.argmax())
            told = f"{image.labels[moved]} at {_rounded(image.annotated[moved])}"
            message = f"{told} is predicted as {image.shown(place)}"
            return Candidate("moved-object-candidate", message, score, box)
        if best < 0 or row[best] < FREE:
            message = f"predicted {image.shown(place)}, nothing annotated"
            return Candidate("unlabelled-object-candidate", message, score, box)
        return None
    there = {image.labels[number] for number in np.flatnonzero(row >= FOUND).tolist()}
    if there and name not in there and not image.ignored[best]:
        message = f"{image.labels[best]} is predicted as {image.shown(place)}"
        return Candidate("wrong-class-candidate", message, score, box)
    return None


def _unseen(image: Compared) -> Iterator[Candidate]:
    """Annotated objects at which nothing is predicted, not even with a low score."""
    aware = image.overlap[image.scores >= AWARE].max(axis=0, initial=0.0)
    hint = (image.overlap * image.scores[:, None]).max(axis=0, initial=0.0)
    for place in np.flatnonzero((aware < APART) & ~image.ignored).tolist():
        x1, y1, x2, y2 = image.annotated[place].tolist()
        if min(x2 - x1, y2 - y1) >= SMALL:
            message = f"{image.labels[place]} at {_rounded(image.annotated[place])}: nothing is"
            strength = 1.0 - float(hint[place])
            yield Candidate(
                "spurious-object-candidate",
                f"{message} predicted there",
                strength,
                (x1, y1, x2, y2),
            )


def _rounded(box: Array) -> list[int]:
    rounded: list[int] = box.round().astype(int).tolist()
    return rounded
