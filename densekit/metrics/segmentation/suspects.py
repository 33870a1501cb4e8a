"""The region of an image where a confident mask disagrees most with the annotation.

Shape letters: K classes, S the D sides of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Suspect
from densekit.metrics.means import Values
from densekit.metrics.segmentation.mask_pair import MaskPair
from densekit.types import IGNORE_INDEX

SURE = 0.8
"""Probability of a pixel from which a disagreement counts, as in `densekit doctor`."""
COLUMNS = 9
"""share, true class, predicted class; first corner (z, y, x) and last corner, ends excluded."""
MOST = 100
LEAST = 0.05
"""Of `Suspect.confidence`: less is the width of a border."""


def disagreement(pair: MaskPair, confidence: NDArray[np.float16], background: bool) -> Values:
    """The largest connected region of pixels that are predicted wrongly with confidence.

    Its share is the sum of the confidence in it by the number of pixels that are annotated or
    predicted as anything but background: 1 if a structure is missing in the annotation and the
    network is certain of all of it, near 0 along a border.

    Args:
        pair: Truth and prediction.
        confidence: (*S) of `confidence_where_wrong`.
        background: Whether class 0 is the background.

    Returns:
        (9,), see `COLUMNS`; of axes that the image has not, and without a region, 0.
    """
    from scipy import ndimage

    row = np.zeros(COLUMNS)
    (around,) = ndimage.find_objects((confidence > 0).view(np.uint8)) or [None]
    if around is None:
        return row
    labels, count = ndimage.label(confidence[around] > 0)
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
    largest = int(sizes.argmax()) + 1
    within = ndimage.find_objects(labels, max_label=largest)[largest - 1]
    inside = labels[within] == largest
    starts = [(a.start + w.start, a.start + w.stop) for a, w in zip(around, within, strict=True)]
    box = tuple(slice(start, stop) for start, stop in starts)
    structures = int(_any_structure(pair, background).sum())
    row[0] = float(confidence[box][inside].sum(dtype=np.float64)) / max(1, structures)
    row[1], row[2] = (_usual(pair, mask, box, inside) for mask in (pair.truth, pair.predicted))
    row[6 - len(box) : 6] = [part.start for part in box]
    row[9 - len(box) : 9] = [part.stop for part in box]
    return row


def suspects_of(ids: NDArray[np.int64], rows: Values, names: Sequence[str]) -> list[Suspect]:
    """The images whose region has the largest share, largest first.

    Args:
        ids: (N,) of the images.
        rows: (N, 9) of `disagreement`.
        names: Of the classes, those without a name being background.
    """
    order = np.argsort(-rows[:, 0], kind="stable")[:MOST]
    found = []
    for image, row in zip(ids[order].tolist(), rows[order].tolist(), strict=True):
        share, true, predicted, z, y, x, z_end, y_end, x_end = row
        if share < LEAST:
            break
        reason = f"{_name(names, true)} annotated where {_name(names, predicted)} is predicted"
        if z_end > 0:
            reason += f", slices {int(z)} to {int(z_end) - 1}"
        has_box = y_end > 0
        found.append(
            Suspect(image, reason, min(share, 1.0), (x, y, x_end, y_end) if has_box else None)
        )
    return found


def confidence_where_wrong(
    confidence: NDArray[Any], wrong: NDArray[np.bool_]
) -> NDArray[np.float16]:
    """The largest confidence of a wrong class, 0 where none is `SURE`.

    Args:
        confidence: (L, ...) of the answer for each of L classes, or of the one of exclusive ones.
        wrong: (L, ...) whether the answer is wrong.
    """
    found: NDArray[Any] = np.where(wrong & (confidence >= SURE), confidence, 0).max(0)
    return found.astype(np.float16)


def _any_structure(pair: MaskPair, background: bool) -> NDArray[np.bool_]:
    """(*S) where anything but background is annotated or predicted."""
    counted: NDArray[np.bool_] = pair.truth != IGNORE_INDEX
    if pair.multilabel:
        planes = ((pair.truth == 1) | (pair.predicted == 1)) & counted
        found: NDArray[np.bool_] = planes.any(0)
        return found
    if pair.num_classes > 1 and not background:
        return counted
    there: NDArray[np.bool_] = ((pair.truth > 0) | (pair.predicted > 0)) & counted
    return there


def _usual(pair: MaskPair, mask: NDArray[np.uint8], box: Any, inside: NDArray[np.bool_]) -> float:
    """The value that a region has most often; of several classes that of the wrong one, or -1.

    Classes count from 0, what is none of a binary or a multi-label head's classes as -1.
    """
    if not pair.multilabel:
        value = int(np.bincount(mask[box][inside]).argmax())
        return value - 1 if pair.num_classes == 1 else value
    there = mask[(slice(None), *box)][:, inside] == 1  # (K, pixels)
    differs = (pair.truth != pair.predicted)[(slice(None), *box)][:, inside]
    label = int(differs.sum(1).argmax())
    return float(label) if there[label].mean() > 0.5 else -1.0


def _name(names: Sequence[str], value: float) -> str:
    return repr(names[int(value)]) if value >= 0 else "nothing"
