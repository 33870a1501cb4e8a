"""Boxes of a whole split that are stored in another layout than their format has.

Boxes come here as corners in pixels, so each check first goes back to the stored numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from densekit.app.doctor.checks.boxes import is_finite
from densekit.app.doctor.facts import Part, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_part

FEWEST = 5
"""Boxes from which a layout is recognised."""
ROUNDING = 1.0
"""Pixels by which boxes of a right layout may leave their images."""
OUT = 0.2
"""Share of boxes that leave their images from which the layout is suspected."""
MOST = 0.98
"""Share of boxes that must fit in the other layout."""
RELATIVE = 1.5
"""Largest stored number of relative coordinates."""


def _boxes(part: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, 4) finite corners and (M, 4) width, height, width, height of their images."""
    rows = [
        (item.box, example.frame)
        for example in part.examples
        for item in example.items or ()
        if example.frame is not None and is_finite(item.box)
    ]
    boxes = np.asarray([box for box, _ in rows], dtype=np.float64).reshape(-1, 4)
    sizes = np.asarray([frame[::-1] * 2 for _, frame in rows if frame], dtype=np.float64)
    return boxes, sizes.reshape(-1, 4)


def _suspected(part: Part, stored: tuple[str, ...]) -> bool:
    """Whether many boxes of a split that is stored like this leave their images."""
    boxes, sizes = _boxes(part)
    return part.stored in stored and len(boxes) >= FEWEST and 1 - _fitting(boxes, sizes) >= OUT


def _fitting(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Share of boxes that have an area and are inside their images."""
    inside = (boxes >= -ROUNDING).all(1) & (boxes <= sizes + ROUNDING).all(1)
    sound = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return float((inside & sound).mean()) if len(boxes) else 1.0


def _xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


@check(Severity.ERROR)
def boxes_like_corners(study: Study) -> Iterator[Hit]:
    """COCO boxes that look like corners: x1, y1, x2, y2 in place of x, y, w, h."""
    for part in study.parts.values():
        if not _suspected(part, ("coco",)):
            continue
        boxes, sizes = _boxes(part)
        fit = _fitting(_xywh(boxes), sizes)
        if fit >= MOST:
            yield of_part(part, f"{fit:.0%} of {len(boxes)} boxes fit if bbox holds corners")


@check(Severity.ERROR)
def boxes_like_centres(study: Study) -> Iterator[Hit]:
    """COCO boxes that look like centre and size, as YOLO's are."""
    for part in study.parts.values():
        if not _suspected(part, ("coco",)):
            continue
        boxes, sizes = _boxes(part)
        half = (boxes[:, 2:] - boxes[:, :2]) / 2
        fit = _fitting(boxes - np.concatenate([half, half], axis=1), sizes)
        if fit >= MOST and _fitting(_xywh(boxes), sizes) < MOST:
            yield of_part(part, f"{fit:.0%} of {len(boxes)} boxes fit if x, y is the centre")


@check(Severity.ERROR)
def boxes_like_sizes(study: Study) -> Iterator[Hit]:
    """VOC boxes that look like x, y, width, height in place of corners."""
    for part in study.parts.values():
        if not _suspected(part, ("voc", "")):
            continue
        boxes, sizes = _boxes(part)
        other = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        inverted = float((boxes[:, 2:] < boxes[:, :2]).any(1).mean())
        if _fitting(other, sizes) >= MOST and inverted >= OUT / 2:
            yield of_part(
                part, f"{inverted:.0%} of {len(boxes)} boxes are inverted; as x, y, w, h they fit"
            )


@check(Severity.ERROR)
def boxes_with_axes_swapped(study: Study) -> Iterator[Hit]:
    """Boxes whose x and y look exchanged."""
    for part in study.parts.values():
        if not _suspected(part, ("coco", "voc", "yolo", "")):
            continue
        boxes, sizes = _boxes(part)
        fit = _fitting(boxes[:, [1, 0, 3, 2]], sizes)
        if fit >= MOST:
            yield of_part(part, f"{fit:.0%} of {len(boxes)} boxes fit with x and y exchanged")


@check(Severity.ERROR)
def boxes_relative(study: Study) -> Iterator[Hit]:
    """Boxes in 0..1 where pixels are expected."""
    for part in study.parts.values():
        boxes, _ = _boxes(part)
        if part.stored not in ("coco", "voc", "") or len(boxes) < FEWEST:
            continue
        shift = [1, 1, 0, 0] if part.stored == "voc" else 0  # the reader subtracts 1
        stored = boxes + shift
        if stored.max() <= RELATIVE * 2 and float((stored <= RELATIVE).all(1).mean()) >= MOST:
            yield of_part(
                part, f"the largest of {len(boxes)} boxes' coordinates is {stored.max():.3g}"
            )


@check(Severity.ERROR)
def boxes_in_pixels(study: Study) -> Iterator[Hit]:
    """YOLO boxes in pixels where 0..1 is expected."""
    for part in study.parts.values():
        boxes, sizes = _boxes(part)
        if part.stored != "yolo" or len(boxes) < FEWEST:
            continue
        share = float((boxes[:, 2:] > 2 * sizes[:, 2:]).any(1).mean())
        if share >= 0.5:
            yield of_part(
                part, f"{share:.0%} of {len(boxes)} boxes are twice as large as their image"
            )


@check(Severity.WARNING)
def boxes_from_zero(study: Study) -> Iterator[Hit]:
    """VOC boxes that count pixels from 0, where the format counts from 1."""
    for part in study.parts.values():
        boxes, _ = _boxes(part)
        below = int((boxes[:, :2] == -1).any(1).sum()) if part.stored == "voc" else 0
        if below:
            yield of_part(part, f"{below} of {len(boxes)} boxes begin at pixel 0")


CHECKS = (
    boxes_like_corners,
    boxes_like_centres,
    boxes_like_sizes,
    boxes_with_axes_swapped,
    boxes_relative,
    boxes_in_pixels,
    boxes_from_zero,
)
