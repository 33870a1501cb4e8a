"""Arranges images in a row or a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from densekit.visualization.colours import BACKGROUND, INK
from densekit.visualization.fonts import typeset
from densekit.visualization.images import READABLE_SIDE, Picture, resized, to_rgb

WIDEST = 1920
"""Width in pixels up to which a row of flat images is enlarged."""


def side_by_side(images: Sequence[ArrayLike], titles: Sequence[str]) -> Picture:
    """Arranges panels of equal height in a row, each under its title.

    Args:
        images: (H, W, C) each, of any sizes; all are scaled to the height of the tallest, and
            enlarged to half of `READABLE_SIDE` as long as none becomes wider than `WIDEST`.
        titles: One per panel.
    """
    pictures = [to_rgb(image) for image in images]
    tallest = max(len(picture) for picture in pictures)
    ratio = max(picture.shape[1] / len(picture) for picture in pictures)
    height = max(tallest, min(READABLE_SIDE // 2, round(WIDEST / ratio)))
    panels = [resized(p, round(p.shape[1] * height / p.shape[0]), height) for p in pictures]
    size = max(15, height // 26)
    strip, gap = 2 * size, max(6, height // 60)
    width = sum(panel.width for panel in panels) + gap * (len(panels) + 1)
    canvas = Image.new("RGB", (width, strip + height + gap), BACKGROUND)
    draw, left = ImageDraw.Draw(canvas), gap
    for panel, (title, font) in zip(panels, typeset(titles, size), strict=True):
        canvas.paste(panel, (left, strip))
        draw.text((left + panel.width / 2, strip / 2), title, INK, font, anchor="mm")
        left += panel.width + gap
    return np.array(canvas)


def with_title(image: ArrayLike, title: str) -> Picture:
    """Puts a line above an image, which becomes wider if the line is.

    Args:
        image: (H, W, C).
        title: The line.
    """
    picture = Image.fromarray(to_rgb(image))
    size = max(15, min(28, picture.height // 20))
    ((text, font),) = typeset([title], size)
    width = max(picture.width, math.ceil(font.getlength(text)) + 2 * size)
    canvas = Image.new("RGB", (width, 2 * size + picture.height), BACKGROUND)
    canvas.paste(picture, ((width - picture.width) // 2, 2 * size))
    ImageDraw.Draw(canvas).text((width / 2, size), text, INK, font, anchor="mm")
    return np.array(canvas)


def grid(images: Sequence[ArrayLike], columns: int) -> Picture:
    """Arranges images in a grid, each at its own size and centred in its cell.

    Args:
        images: (H, W, C) each, of any sizes, at least one.
        columns: Images per row; fewer where there are fewer images.
    """
    cells = [to_rgb(image) for image in images]
    columns, width = max(1, min(columns, len(cells))), max(cell.shape[1] for cell in cells)
    gap = max(4, width // 60)
    rows = [cells[n : n + columns] for n in range(0, len(cells), columns)]
    heights = [max(map(len, row)) for row in rows]
    size = (columns * (width + gap) + gap, sum(heights) + gap * (len(rows) + 1))
    canvas, top = Image.new("RGB", size, BACKGROUND), gap
    for row, height in zip(rows, heights, strict=True):
        for n, cell in enumerate(row):
            left = gap + n * (width + gap) + (width - cell.shape[1]) // 2
            canvas.paste(Image.fromarray(cell), (left, top + (height - len(cell)) // 2))
        top += height + gap
    return np.array(canvas)
