"""Draws boxes over their images, each with its name on a tag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

from densekit.visualization.categories import label_names
from densekit.visualization.colours import BACKGROUND, INK, Colour, class_colour
from densekit.visualization.fonts import Typeset, typeset
from densekit.visualization.images import Picture, enlarged, to_rgb

Rectangle = tuple[float, float, float, float]


def draw_boxes(
    image: ArrayLike,
    boxes: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    scores: ArrayLike | None = None,
    colours: Sequence[Colour] | None = None,
) -> Picture:
    """Draws boxes in the colours of their classes, each with its name on a filled tag.

    Small images are enlarged by an integer factor, so that the names are legible.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        boxes: (N, 4) xyxy pixels of the image.
        labels: (N,) indices into `names`.
        names: Class names; a class without a name is shown by its number.
        scores: (N,) in 0..1, written after the names; tags of higher scores are drawn on top.
        colours: N, instead of those of the classes.

    Returns:
        (f H, f W, 3), f = 1 if a side is at least `READABLE_SIDE`.
    """
    canvas, factor = enlarged(to_rgb(image))
    corners = _inside(np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * factor, canvas.size)
    kinds = np.asarray(labels).reshape(-1).tolist()
    if len(kinds) != len(corners):
        raise ValueError(f"labels: expected one per box, {len(corners)}, got {len(kinds)}")
    texts, areas = label_names(kinds, names), (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    weight = areas  # if two tags collide, that of the larger object moves
    if scores is not None:
        certain = np.asarray(scores, dtype=np.float64).reshape(-1)
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, certain, strict=True)]
        weight = -certain
    inks = [class_colour(kind) for kind in kinds] if colours is None else list(colours)
    draw, longer = ImageDraw.Draw(canvas), max(canvas.size)
    line, tags = max(3, round(longer / 200)), typeset(texts, max(14, round(longer / 44)))
    for n in np.argsort(-areas, kind="stable"):  # small boxes over large ones
        _outline(draw, corners[n], inks[n], line)
    order = np.argsort(weight, kind="stable").tolist()
    spots = _tag_spots([corners[n] for n in order], [tags[n] for n in order], canvas.size)
    for n, spot in reversed(list(zip(order, spots, strict=True))):
        _draw_tag(draw, spot, tags[n], inks[n])
    return np.array(canvas)


def _inside(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Clips boxes to the canvas, at least one pixel wide and high, as inclusive pixels."""
    low = boxes[:, :2].clip(0, np.array(size) - 1)
    high = np.maximum((boxes[:, 2:] - 1).clip(0, np.array(size) - 1), low)
    return np.concatenate((low, high), axis=1).round()


def _outline(draw: ImageDraw.ImageDraw, box: NDArray[np.float64], ink: Colour, line: int) -> None:
    x1, y1, x2, y2 = box.tolist()
    # The dark rim keeps the colour visible over a background of the same colour.
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=BACKGROUND, width=line + 2)
    draw.rectangle((x1, y1, x2, y2), outline=ink, width=line)


def _tag_spots(
    boxes: Sequence[NDArray[np.float64]],
    texts: Sequence[Typeset],
    size: tuple[int, int],
) -> list[Rectangle]:
    """Positions tags above, in or below their boxes, where they overlap earlier ones the least."""
    taken: list[Rectangle] = []
    for box, (text, font) in zip(boxes, texts, strict=True):
        width, height = font.getlength(text) + 0.6 * font.size, 1.3 * font.size
        left, top, right, bottom = box.tolist()
        corners = [
            (left, top - height),
            (left, top),
            (left, bottom),
            (left, bottom - height),
            (right - width, top - height),
            (right - width, bottom),
            (right - width, top),
        ]
        fitting = [_fit(x, y, width, height, size) for x, y in corners]
        taken.append(min(fitting, key=lambda spot: sum(_overlap(spot, t) for t in taken)))
    return taken


def _fit(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Rectangle:
    """Moves a rectangle into the canvas."""
    x, y = max(0.0, min(x, size[0] - width)), max(0.0, min(y, size[1] - height))
    return x, y, x + width, y + height


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Intersection area of two rectangles."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _draw_tag(draw: ImageDraw.ImageDraw, spot: Rectangle, tag: Typeset, ink: Colour) -> None:
    text, font = tag
    draw.rectangle(spot, fill=ink)
    red, green, blue = ink
    dark = 0.299 * red + 0.587 * green + 0.114 * blue > 120
    middle = ((spot[0] + spot[2]) / 2, (spot[1] + spot[3]) / 2)
    draw.text(middle, text, BACKGROUND if dark else INK, font, anchor="mm")
