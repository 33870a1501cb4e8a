"""Draws masks over their images, and legends."""

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
    """Overlays the classes of a mask in colour, with contours; void pixels are darkened.

    Small images are enlarged by an integer factor.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        mask: (H, W) classes, 255 void, or multi-label (K, H, W) of 0 and 1.
        classes: Values, or channels of a multi-label mask, to draw.
        opacity: Opacity of the colour within the contours, 0..1.

    Returns:
        (f H, f W, 3), f = 1 if a side is at least `READABLE_SIDE`.
    """
    picture, labels = to_rgb(image), np.asarray(mask)
    sides, found = picture.shape[:2], labels.shape[-2:]
    if found != sides:
        raise ValueError(f"mask: expected the size of the image, {sides}, got {found}")
    base, factor = enlarged(picture)
    labels = labels.repeat(factor, axis=-2).repeat(factor, axis=-1)
    canvas, line = np.array(base, dtype=np.float32), max(1, round(max(base.size) / 500))
    canvas[(labels == 255) if labels.ndim == 2 else (labels == 255).all(axis=0)] *= 0.4
    regions = [
        (value, labels == value if labels.ndim == 2 else labels[value] == 1) for value in classes
    ]
    for value, region in regions:
        canvas[region] += opacity * (np.array(class_colour(value), np.float32) - canvas[region])
    for value, region in regions:  # contours lie above all colours
        canvas[contour(region, line)] = class_colour(value)
    return canvas.round().astype(np.uint8)


def overlay(image: ArrayLike, mask: ArrayLike, classes: Mapping[int, str]) -> Picture:
    """Draws the classes of a mask over an image, with a legend below; see `draw_mask`."""
    return with_legend(draw_mask(image, mask, classes), classes)


def with_legend(picture: Picture, classes: Mapping[int, str]) -> Picture:
    """Adds a legend of class colours and names below a picture.

    Args:
        picture: (H, W, 3).
        classes: Mask value to name, see `draw_mask`.
    """
    box = max(13, min(22, picture.shape[1] // 55))
    step = round(1.7 * box)
    entries, x, y = [], box, step // 2
    for value, text in zip(classes, typeset(classes.values(), box), strict=True):
        width = round(1.5 * box + text[1].getlength(text[0]))
        if x > box and x + width > picture.shape[1]:
            x, y = box, y + step
        entries.append((x, y, value, text))
        x += width + box
    height = y + step if entries else 0
    canvas = Image.new("RGB", (picture.shape[1], len(picture) + height), BACKGROUND)
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    for x, y, value, (name, font) in entries:
        top = len(picture) + y
        draw.rectangle((x, top, x + box, top + box), fill=class_colour(value))
        draw.text((x + round(1.5 * box), top + box / 2), name, INK, font, anchor="lm")
    return np.array(canvas)


def contour(region: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """Returns the outermost `line` pixels of a region (H, W), but not at the picture's border."""
    padded = np.pad(region, line, mode="edge")
    height, width = region.shape
    inner = region.copy()
    for y, x in ((0, line), (2 * line, line), (line, 0), (line, 2 * line)):
        inner &= padded[y : y + height, x : x + width]
    outer: NDArray[np.bool_] = region & ~inner
    return outer
