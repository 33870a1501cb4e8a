"""Label-error candidates: where a checkpoint is sure of something else than the annotation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from densekit.app.doctor.checks.outliers import outliers
from densekit.app.doctor.facts import Defect, Study
from densekit.app.doctor.object_candidates import Candidate, compare_boxes, names_of
from densekit.app.errors import UsageError
from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked
from densekit.types import IGNORE_INDEX

SURE = 0.8
"""Probability from which a category, or a face, counts."""
DIFFERENT = 0.15
"""Share of pixels from which two masks disagree."""
FAR = 4.0
"""Robust standard deviations from which an image disagrees more than the others."""

Predict = Callable[[Any], Sequence[Mapping[str, Mapping[str, Any]]]]
"""From images to one dict per image, head name to result, as `densekit.Predictor`."""


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
    broken = {example.file for _, example in study.each() if example.is_broken}
    for split, data in source.splits.items():
        found = list(_candidates(data, predict, broken))
        parts[split] = replace(parts[split], defects=[*parts[split].defects, *found])
    return replace(study, parts=parts)


def _candidates(data: Dataset, predict: Predict, broken: set[Path]) -> Iterator[Defect]:
    names = list(data.describe().get("names", ()))
    shares: list[tuple[Path, float]] = []
    for index in tracked(range(len(data)), "comparing with predictions"):
        file = data.path(index)
        if file in broken:
            continue
        try:
            sample = data[index]
        except ValueError:  # a broken record, which other checks report
            continue
        image = sample["image"] if file is None or sample["image"].ndim == 3 else file
        where, (results,) = file or Path(str(sample["meta"]["path"])), predict([image])
        found = _of_image(results, sample["truth"], names)
        shares += [(where, share) for share in found if isinstance(share, float)]
        yield from (_defect(where, one) for one in found if isinstance(one, Candidate))
    yield from _odd_masks(shares)


def _of_image(
    results: Mapping[str, Mapping[str, Any]], truth: Any, names: Sequence[str]
) -> list[Candidate | float]:
    """The candidates of one image; of a mask the share of its pixels that differ."""
    compared = [_of_head(result, truth, names) for result in results.values()]
    if all(found is None for found in compared):
        raise UsageError(
            f"checkpoint: expected a model of {', '.join(truth)}, got results of"
            f" {', '.join(results)}"
        )
    return [one for found in compared for one in found or ()]


def _of_head(
    result: Mapping[str, Any], truth: Any, names: Sequence[str]
) -> Sequence[Candidate | float] | None:
    """What the result of one head says, None if nothing is annotated for it."""
    if "boxes" in result and "boxes" in truth:
        return compare_boxes(result, truth, names)
    if "boxes" in result and "identity" in truth:
        return count_faces(result)
    if "mask" in result and "mask" in truth:
        return [mask_difference(result, truth, names)]
    if "probabilities" in result and "category" in truth:
        return compare_categories(result, truth, names)
    return None


def _defect(file: Path, candidate: Candidate) -> Defect:
    return Defect(candidate.check, file, candidate.message, candidate.box, candidate.strength)


def _odd_masks(shares: Sequence[tuple[Path, float]]) -> Iterator[Defect]:
    """Images in which far more pixels differ than in the others."""
    usual = float(np.median([share for _, share in shares])) if shares else 0.0
    for place in outliers([share for _, share in shares], FAR):
        file, share = shares[place]
        if share > max(usual, DIFFERENT):
            message = f"{share:.0%} of the pixels differ from the prediction, usually {usual:.0%}"
            yield Defect("mask-disagreement", file, message, strength=share)


def count_faces(result: Mapping[str, Any]) -> list[Candidate]:
    """The candidate of an image of one person in which a face detector finds none, or several.

    Args:
        result: `scores` (N,) of the boxes of the detector.
    """
    scores = np.asarray(result["scores"])
    count = int((scores >= SURE).sum())
    if count == 1:
        return []
    if not count:
        return [Candidate("no-face", "nothing is detected", 1.0 - float(scores.max(initial=0.0)))]
    second = float(np.sort(scores)[-2])
    return [Candidate("several-faces", f"{count} faces", second)]


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
    pairs = zip(names_of(result, names), np.asarray(result["scores"]).tolist(), strict=True)
    return [
        Candidate(
            "wrong-label-candidate",
            f"{'+'.join(annotated)} is predicted as {name} {score:.2f}",
            score,
        )
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
