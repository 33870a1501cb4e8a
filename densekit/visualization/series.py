"""Draws series as lines.

Shape letters: L the length of a series, C its channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from densekit.visualization.colours import BACKGROUND, class_colour
from densekit.visualization.images import READABLE_SIDE, Picture


def draw_series(values: NDArray[Any]) -> Picture:
    """Draws a series as lines, each channel in its own band and colour.

    Args:
        values: (L, C); each channel is stretched over its band.

    Returns:
        (240, 480, 3).
    """
    width, height, channels = READABLE_SIDE, READABLE_SIDE // 2, values.shape[1]
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw, columns = ImageDraw.Draw(canvas), np.linspace(4, width - 5, len(values))
    for channel, line in enumerate(np.asarray(values, dtype=np.float64).T):
        share = (line - line.min()) / max(float(np.ptp(line)), 1e-12)
        rows = (channel + 0.92 - 0.84 * share) * height / channels
        points = np.stack([columns, rows], axis=1).ravel().tolist()
        draw.line(points, fill=class_colour(channel), width=2)
    return np.array(canvas)


def series_bands(mask: NDArray[Any]) -> NDArray[Any]:
    """Converts the mask of a series to a mask of the picture drawn by `draw_series`.

    Args:
        mask: (..., L); a value for each position.

    Returns:
        (..., 240, 480).
    """
    places = np.linspace(0, mask.shape[-1] - 1, READABLE_SIDE - 8).round().astype(int)
    places = np.pad(places, 4, mode="edge")  # the margin of `draw_series`
    bands: NDArray[Any] = mask[..., None, places].repeat(READABLE_SIDE // 2, axis=-2)
    return bands
