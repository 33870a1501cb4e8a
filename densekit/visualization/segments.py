"""Draws panoptic segments over their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from densekit.visualization.colours import class_colour
from densekit.visualization.images import Picture, enlarged, to_rgb
from densekit.visualization.masks import contour, with_legend


def draw_segments(
    image: ArrayLike,
    panoptic: ArrayLike,
    segments: Sequence[Mapping[str, Any]],
    opacity: float = 0.45,
) -> Picture:
    """Overlays segments in the colours of their classes, each with a contour; a legend is below.

    Pixels of no segment are darkened. Small images are enlarged by an integer factor.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        panoptic: (H, W) id of the segment of each pixel, 0 for none.
        segments: Their `id`, `label` and `name`.
        opacity: Opacity of the colour within the contours, 0..1.
    """
    base, factor = enlarged(to_rgb(image))
    numbers = np.asarray(panoptic).repeat(factor, axis=0).repeat(factor, axis=1)
    canvas, line = np.array(base, dtype=np.float32), max(1, round(max(base.size) / 400))
    canvas[numbers == 0] *= 0.4
    for segment in segments:
        region, colour = numbers == segment["id"], class_colour(segment["label"])
        canvas[region] += opacity * (np.array(colour, np.float32) - canvas[region])
        canvas[contour(region, line)] = colour
    classes = {one["label"]: one["name"] for one in sorted(segments, key=lambda s: s["label"])}
    return with_legend(canvas.round().astype(np.uint8), classes)
