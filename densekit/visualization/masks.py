"""Masks over their images, and legends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from densekit.visualization.colours import BACKGROUND, INK, class_colour
from densekit.visualization.fonts import typeset
from densekit.visualization.images import Picture, enlarged, to_rgb


def draw_mask(
    image: ArrayLike, mask: ArrayLike, classes: Iterable[int], opacity: float = 0.4
) -> Picture:
    """Lays the colours of classes over an image, with their contours; void pixels are darkened.

    A small image comes back enlarged by a whole number.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        mask: (H, W) classes, 255 void, or multi-label (K, H, W) of 0 and 1.
        classes: Values, or channels of a multi-label mask, that are drawn.
        opacity: Share of the colour within the contours, 0..1.

    Returns:
        (f H, f W, 3), f = 1 for images of `READABLE_SIDE` and more.
    """
    picture, labels = to_rgb(image), np.asarray(mask)
    sides, found = picture.shape[:2], labels.shape[-2:]
    if found != sides:
        raise ValueError(f"mask: expected the sides of the image, {sides}, got {found}")
    base, factor = enlarged(picture)
    labels = labels.repeat(factor, axis=-2).repeat(factor, axis=-1)
    canvas, line = np.array(base, dtype=np.float32), max(1, round(max(base.size) / 500))
    canvas[(labels == 255) if labels.ndim == 2 else (labels == 255).all(axis=0)] *= 0.4
    regions = [
        (value, labels == value if labels.ndim == 2 else labels[value] == 1) for value in classes
    ]
    for value, region in regions:
        canvas[region] += opacity * (np.array(class_colour(value), np.float32) - canvas[region])
    for value, region in regions:  # over the colours of every class
        canvas[region & ~_inner(region, line)] = class_colour(value)
    return canvas.round().astype(np.uint8)


def overlay(image: ArrayLike, mask: ArrayLike, classes: Mapping[int, str]) -> Picture:
    """Draws the classes of a mask over an image, with their names beneath; see `draw_mask`."""
    return with_legend(draw_mask(image, mask, classes), classes)


def with_legend(picture: Picture, classes: Mapping[int, str]) -> Picture:
    """A picture with the colours and names of classes beneath it.

    Args:
        picture: (H, W, 3).
        classes: Mask value to name, see `draw_mask`.
    """
    box = max(13, min(22, picture.shape[1] // 55))
    step = round(1.7 * box)
    places, x, y = [], box, step // 2
    for value, text in zip(classes, typeset(classes.values(), box), strict=True):
        width = round(1.5 * box + text[1].getlength(text[0]))
        if x > box and x + width > picture.shape[1]:
            x, y = box, y + step
        places.append((x, y, value, text))
        x += width + box
    height = y + step if places else 0
    canvas = Image.new("RGB", (picture.shape[1], len(picture) + height), BACKGROUND)
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    for x, y, value, (name, font) in places:
        top = len(picture) + y
        draw.rectangle((x, top, x + box, top + box), fill=class_colour(value))
        draw.text((x + round(1.5 * box), top + box / 2), name, INK, font, anchor="lm")
    return np.array(canvas)


def _inner(region: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """The region without a rim of some pixels; the border of the picture is no rim."""
    padded = np.pad(region, line, mode="edge")
    height, width = region.shape
    inner = region.copy()
    for y, x in ((0, line), (2 * line, line), (line, 0), (line, 2 * line)):
        inner &= padded[y : y + height, x : x + width]
    return inner
