"""Label-error candidates: where a checkpoint is sure of something else than the annotation.

N predicted boxes, M annotated ones, K classes, H, W the size of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.app.doctor.checks.boxes import iou
from densekit.app.doctor.checks.outliers import outliers
from densekit.app.doctor.facts import Defect, Study
from densekit.app.errors import UsageError
from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked
from densekit.types import IGNORE_INDEX

SURE = 0.8
"""Score from which a prediction counts against the annotation."""
AWARE = 0.05
"""Score from which a prediction speaks for an annotated object."""
SAME = 0.7
"""IoU from which a prediction is of the annotated object."""
APART = 0.1
"""IoU below which it is of another one."""
SMALL = 16.0
"""Side in pixels below which an object that is not predicted says nothing about its label."""
DIFFERENT = 0.15
"""Share of pixels from which two masks disagree."""
FAR = 4.0
"""Robust standard deviations from which an image disagrees more than the others."""

Predict = Callable[[Any], Sequence[Mapping[str, Mapping[str, Any]]]]
"""From images to one dict per image, head name to result, as `densekit.Predictor`."""
Candidate = tuple[str, str]
"""Name of the check that reports it, and what was found."""


def with_candidates(study: Study, source: Any, predict: Predict) -> Study:
    """The study with the label-error candidates of every split among its defects.

    Args:
        study: The examined data set.
        source: The same data set as training builds it.
        predict: The predictor of a checkpoint.

    Raises:
        UsageError: If the checkpoint predicts nothing that the data set annotates.
    """
    parts = dict(study.parts)
    for split, data in source.splits.items():
        found = list(_candidates(data, predict))
        parts[split] = replace(parts[split], defects=[*parts[split].defects, *found])
    return replace(study, parts=parts)


def _candidates(data: Dataset, predict: Predict) -> Iterator[Defect]:
    names = list(data.describe().get("names", ()))
    shares: list[tuple[Path, float]] = []
    for index in tracked(range(len(data)), "comparing with predictions"):
        try:
            sample = data[index]
        except ValueError:  # a broken file, which other checks report
            continue
        file = data.path(index)
        image = sample["image"] if file is None or sample["image"].ndim == 3 else file
        where, (results,) = file or Path(str(sample["meta"]["path"])), predict([image])
        truth: Any = sample["truth"]
        compared = False
        for result in results.values():
            if "boxes" in result and "boxes" in truth:
                found = compare_boxes(result, truth, names)
            elif "boxes" in result and "identity" in truth:
                found = count_faces(result)
            elif "mask" in result and "mask" in truth:
                found = []
                shares.append((where, mask_difference(result, truth, names)))
            elif "probabilities" in result and "category" in truth:
                found = compare_categories(result, truth, names)
            else:
                continue
            compared = True
            yield from (Defect(check, where, message) for check, message in found)
        if not compared:
            raise UsageError(
                f"checkpoint: expected a model of {', '.join(truth)}, got results of"
                f" {', '.join(results)}"
            )
    yield from _odd_masks(shares)


def _odd_masks(shares: Sequence[tuple[Path, float]]) -> Iterator[Defect]:
    """Images in which far more pixels differ than in the others."""
    usual = float(np.median([share for _, share in shares])) if shares else 0.0
    for place in outliers([share for _, share in shares], FAR):
        file, share = shares[place]
        if share > max(usual, DIFFERENT):
            message = f"{share:.0%} of the pixels differ from the prediction, usually {usual:.0%}"
            yield Defect("mask-disagreement", file, message)


def compare_boxes(
    result: Mapping[str, Any], truth: Mapping[str, Any], names: Sequence[str]
) -> list[Candidate]:
    """Candidates of one image: objects without a box, boxes without an object, other classes.

    Args:
        result: `boxes` (N, 4), `scores` (N,) and `names` of the prediction.
        truth: `boxes` (M, 4), `labels` (M,), and `crowd` and `difficult` where they are known.
        names: Class names of the annotation.
    """
    boxes, scores = (np.asarray(result[key], np.float64) for key in ("boxes", "scores"))
    predicted = _names_of(result, names)
    annotated = np.asarray(truth["boxes"], np.float64).reshape(-1, 4)
    labels = [names[label] for label in np.asarray(truth["labels"]).tolist()]
    ignored = np.zeros(len(annotated), bool)
    for key in ("crowd", "difficult"):
        ignored |= np.asarray(truth.get(key, ignored), bool)
    overlap = _overlap(boxes, annotated)  # (N, M)
    found = []
    for place in np.flatnonzero(scores >= SURE).tolist():
        row, name = overlap[place], predicted[place]
        best = int(row.argmax()) if len(row) else -1
        sure = f"{name} {scores[place]:.2f} at {boxes[place].round().astype(int).tolist()}"
        if best < 0 or row[best] < APART:
            found.append(("unlabelled-object-candidate", f"predicted {sure}, nothing annotated"))
        elif row[best] >= SAME and labels[best] != name and not ignored[best]:
            others = [labels[n] for n in np.flatnonzero(row >= SAME)]
            if name not in others:
                found.append(("wrong-class-candidate", f"{labels[best]} is predicted as {sure}"))
    aware = overlap[scores >= AWARE].max(axis=0, initial=0.0)
    for place in np.flatnonzero((aware < APART) & ~ignored).tolist():
        x1, y1, x2, y2 = annotated[place]
        if min(x2 - x1, y2 - y1) >= SMALL:
            box = annotated[place].round().astype(int).tolist()
            message = f"{labels[place]} at {box}: nothing is predicted there"
            found.append(("spurious-object-candidate", message))
    return found


def _names_of(result: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Class name of each prediction, by the model or, where it knows none, by the data."""
    if "names" in result:
        return list(result["names"])
    return [names[label] for label in np.asarray(result["labels"]).tolist()]


def _overlap(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) IoU."""
    both = np.concatenate([boxes.reshape(-1, 4), others])
    with np.errstate(divide="ignore", invalid="ignore"):  # boxes without area
        return np.nan_to_num(iou(both))[: len(boxes), len(boxes) :]


def count_faces(result: Mapping[str, Any]) -> list[Candidate]:
    """The candidate of an image of one person in which a face detector finds none, or several.

    Args:
        result: `scores` (N,) of the detector's boxes.
    """
    count = int((np.asarray(result["scores"]) >= SURE).sum())
    if count == 1:
        return []
    return [
        ("no-face", "nothing is detected") if not count else ("several-faces", f"{count} faces")
    ]


def compare_categories(
    result: Mapping[str, Any], truth: Mapping[str, Any], names: Sequence[str]
) -> list[Candidate]:
    """The candidate of one image, if the model is sure of a label that is not annotated.

    Args:
        result: `labels` (n,), `scores` (n,) and perhaps `names` of the prediction.
        truth: `category`, a class or (K,) labels of 0 and 1.
        names: Class names of the annotation.
    """
    category = np.asarray(truth["category"])
    labels = np.flatnonzero(category) if category.ndim else category.reshape(1)
    annotated = [names[int(label)] for label in labels]
    pairs = zip(_names_of(result, names), np.asarray(result["scores"]).tolist(), strict=True)
    return [
        ("wrong-label-candidate", f"{'+'.join(annotated)} is predicted as {name} {score:.2f}")
        for name, score in pairs
        if score >= SURE and name not in annotated
    ]


def mask_difference(
    result: Mapping[str, Any], truth: Mapping[str, Any], names: Sequence[str]
) -> float:
    """Share of the pixels that are not void in which a predicted mask differs.

    Args:
        result: `mask` (*S) or (K, *S) and perhaps `names` of the prediction.
        truth: `mask` likewise.
        names: Class names of the annotation.

    Raises:
        UsageError: If the model has other classes, or another kind of mask.
    """
    predicted, annotated = np.asarray(result["mask"]), np.asarray(truth["mask"])
    if list(result.get("names", names)) != list(names) or predicted.shape != annotated.shape:
        given = list(result.get("names", ())), predicted.shape
        raise UsageError(
            f"checkpoint: expected masks of {list(names)} and shape {annotated.shape}, got"
            f" {given[0]} and {given[1]}"
        )
    valid = annotated != IGNORE_INDEX
    return float((predicted != annotated)[valid].mean()) if valid.any() else 0.0
