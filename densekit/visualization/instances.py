"""Draws the objects of an image: boxes, and masks in a colour of each object's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from densekit.types import RunLengths
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.colours import Colour, class_colour
from densekit.visualization.images import Picture, enlarged, to_rgb
from densekit.visualization.masks import contour

OPACITY = 0.45


def draw_objects(
    image: ArrayLike,
    found: Mapping[str, Any],
    names: Sequence[str],
    scale: Sequence[float] = (1.0, 1.0),
) -> Picture:
    """Draws the boxes of a result or an annotation, and their masks where there are some.

    Boxes without masks have the colours of their classes, see `draw_boxes`.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        found: `boxes` (N, 4), `labels` (N,), and where known `scores` (N,) and `masks`.
        names: Class names.
        scale: Factors of y and x from the frame of `found` to `image`.
    """
    height, width = scale
    boxes = np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4)
    boxes = boxes * np.array([width, height, width, height])
    scores = found.get("scores")
    if "masks" not in found:
        return draw_boxes(image, boxes, found["labels"], names, scores)
    return draw_instances(image, found["masks"], boxes, found["labels"], names, scores)


def draw_instances(
    image: ArrayLike,
    masks: Sequence[RunLengths],
    boxes: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    scores: ArrayLike | None = None,
) -> Picture:
    """Draws masks with their boxes, each object in another colour, and its name on a tag.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        masks: N masks of the image, or of it at another size.
        boxes: (N, 4) xyxy pixels of `image`.
        labels: See `draw_boxes`.
        names: See `draw_boxes`.
        scores: See `draw_boxes`.

    Returns:
        (f H, f W, 3), f = 1 if a side is at least `READABLE_SIDE`.

    Raises:
        ValueError: There is not one mask a box.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if len(masks) != len(corners):
        raise ValueError(f"masks: expected one per box, {len(corners)}, got {len(masks)}")
    base, factor = enlarged(to_rgb(image))
    canvas, line = np.array(base, dtype=np.float32), max(2, round(max(base.size) / 400))
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    for n in np.argsort(-areas, kind="stable").tolist():  # small objects over large ones
        _paint(canvas, masks[n], class_colour(n), line)
    colours = [class_colour(n) for n in range(len(masks))]
    picture = canvas.round().astype(np.uint8)
    return draw_boxes(picture, corners * factor, labels, names, scores, colours)


def _paint(canvas: NDArray[np.float32], mask: RunLengths, ink: Colour, line: int) -> None:
    """Colours the pixels of a mask, and its contour."""
    from pycocotools import mask as coco_mask

    x, y, width, height = coco_mask.toBbox(mask).tolist()
    if not width * height:
        return
    plane = coco_mask.decode(mask).astype(bool)  # (h, w)
    spans = [
        _span(start, start + length, old, new, line)
        for start, length, old, new in (
            (y, height, plane.shape[0], canvas.shape[0]),
            (x, width, plane.shape[1], canvas.shape[1]),
        )
    ]
    window = tuple(slice(first, last) for first, last, _ in spans)
    region = plane[np.ix_(*(nearest for _, _, nearest in spans))]
    part, colour = canvas[window], np.array(ink, np.float32)
    part[region] += OPACITY * (colour - part[region])
    part[contour(region, line)] = colour


def _span(
    start: float, stop: float, old: int, new: int, margin: int
) -> tuple[int, int, NDArray[np.int64]]:
    """The pixels of an axis of the canvas that hold a range of the mask's, and their nearest ones.

    Args:
        start: First pixel of the mask's axis.
        stop: Its end.
        old: Length of the mask's axis.
        new: Length of the canvas's axis.
        margin: Pixels of the canvas around the range.
    """
    first = max(0, int(start * new / old) - margin)
    last = min(new, int(np.ceil(stop * new / old)) + margin)
    nearest = ((np.arange(first, last) + 0.5) * old / new).astype(np.int64)
    return first, last, np.minimum(nearest, old - 1)
