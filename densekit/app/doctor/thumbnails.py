"""Small pictures of findings, as text that a page holds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from densekit.app.doctor.facts import Box
from densekit.app.pages import image_uri

SIDE = 160
"""Longer side of a thumbnail."""
AROUND = 1.5
"""Margin around a box, relative to its longer side."""
LINE = "#ff2fd0"
"""Colour of a box; hardly anything in a photograph has it."""


def thumbnail(file: Path, box: Box | None = None) -> str:
    """A picture as a data URI; empty for a file that cannot be read.

    Args:
        file: The image.
        box: What is drawn, with its surroundings; None shows the whole image.
    """
    try:
        with Image.open(file) as image:
            if box is None:
                image.draft("RGB", (2 * SIDE, 2 * SIDE))
            upright = ImageOps.exif_transpose(image).convert("RGB")
        small = _whole(upright) if box is None else _cut(upright, box)
    except Exception:  # Pillow raises errors of any type; the report says what is wrong
        return ""
    return image_uri(small, quality=80)


def _whole(image: Image.Image) -> Image.Image:
    image.thumbnail((SIDE, SIDE))
    return image


def _cut(image: Image.Image, box: Box) -> Image.Image:
    """The surroundings of a box, with its outline."""
    x1, y1, x2, y2 = _inside(
        (min(box[0::2]), min(box[1::2]), max(box[0::2]), max(box[1::2])), image
    )
    margin = max(AROUND * max(x2 - x1, y2 - y1), SIDE / 4)
    window = _inside((x1 - margin, y1 - margin, x2 + margin, y2 + margin), image)
    left, top, right, bottom = (round(side) for side in window)
    cut = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    scale = SIDE / max(cut.size)
    shown = cut.resize([max(1, round(side * scale)) for side in cut.size])
    corners = [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale]
    ImageDraw.Draw(shown).rectangle(corners, outline=LINE, width=2)
    return shown


def _inside(box: Box, image: Image.Image) -> Box:
    """A box clipped to an image."""
    width, height = image.size
    x1, x2 = (min(max(x, 0.0), float(width)) for x in box[0::2])
    y1, y2 = (min(max(y, 0.0), float(height)) for y in box[1::2])
    return x1, y1, x2, y2
