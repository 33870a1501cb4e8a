"""Draws saliency maps over their images.

Shape letters: S the sides of an image along its axes, C its channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from densekit.visualization.colours import INK
from densekit.visualization.images import LARGEST, Picture, enlarged, resized, to_grey, to_rgb
from densekit.visualization.masks import contour
from densekit.visualization.series import draw_series, series_bands

OPACITY = 0.8
"""Of the most salient pixel."""


def draw_saliency(image: ArrayLike, saliency: ArrayLike) -> Picture:
    """Overlays a map on its image in grey, from violet (weak) to yellow (strong).

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        saliency: (H, W); what is not positive is transparent, the largest hundredth of what is
            positive is yellow.

    Returns:
        (H, W, 3).
    """
    from matplotlib import colormaps

    grey = to_rgb(image).astype(np.float32).mean(2, keepdims=True)
    share = np.asarray(saliency, np.float32).clip(min=0)
    positive = share[share > 0]
    largest = float(np.percentile(positive, 99)) if len(positive) else 1.0
    share = (share / max(largest, 1e-12)).clip(max=1)
    heat = np.asarray(colormaps["plasma"](share))[..., :3].astype(np.float32) * 255
    opacity = OPACITY * np.sqrt(share)[..., None]
    drawn: Picture = (grey + opacity * (heat - grey)).round().clip(0, 255).astype(np.uint8)
    return drawn


def draw_outline(image: ArrayLike, region: NDArray[np.bool_] | None) -> Picture:
    """Draws the contour of a region (H, W) in white with a dark rim; none for None.

    Small images are enlarged by an integer factor.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        region: (H, W).
    """
    base, factor = enlarged(to_rgb(image))
    canvas = np.array(base)
    if region is None:
        return canvas
    large = region.repeat(factor, axis=0).repeat(factor, axis=1)
    line = max(2, round(max(base.size) / 250))
    canvas[contour(large, 2 * line)] = 0
    canvas[contour(large, line)] = INK
    return canvas


def saliency_plane(
    image: NDArray[Any], saliency: NDArray[Any], region: NDArray[np.bool_] | None
) -> tuple[Picture, NDArray[Any], NDArray[np.bool_] | None]:
    """Returns a picture of an image, and its map and region in the frame of that picture.

    A series is drawn as lines; a volume is shown by its slice with the largest sum of positive
    saliency, of those that the region crosses. Pictures have at most `LARGEST` pixels per side.

    Args:
        image: (*S, C).
        saliency: (*S).
        region: (*S) or None.
    """
    if image.ndim == 2:
        return (
            draw_series(image),
            series_bands(saliency),
            None if region is None else series_bands(region),
        )
    if image.ndim == 4:
        sums = saliency.clip(min=0).sum(axis=(1, 2))
        if region is not None and region.any():
            sums = np.where(region.any(axis=(1, 2)), sums, -1)
        z = int(sums.argmax())
        image, saliency = to_grey(image[..., 0])[z], saliency[z]
        region = None if region is None else region[z]
    picture = to_rgb(image)
    share = LARGEST / max(*picture.shape[:2], LARGEST)
    height, width = (max(1, round(side * share)) for side in picture.shape[:2])
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip((height, width), picture.shape, strict=False)
    )
    small = np.array(resized(picture, width, height))
    return (
        small,
        saliency[rows][:, columns],
        None if region is None else region[rows][:, columns],
    )
