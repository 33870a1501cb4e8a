"""Draws images of any dimension: a series as lines, a volume by its slices.

Shape letters: S the sides of an image along its axes, C its channels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit.ops.interpolation import nearest_centres
from densekit.visualization.images import LARGEST, Picture, to_grey, to_rgb
from densekit.visualization.series import draw_series, series_bands


def as_picture(image: NDArray[Any]) -> Picture:
    """Converts an image to a picture: a series as lines, a volume as its middle slice.

    Args:
        image: (*S, C) of one, two or three dimensions.
    """
    if image.ndim == 2:
        return draw_series(image)
    return to_rgb(image if image.ndim == 3 else to_grey(image[..., 0])[len(image) // 2])


def plane_of(
    image: NDArray[Any], masks: Sequence[NDArray[Any]], classes: Iterable[int]
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Returns a 2-D picture of an image, and its masks in the frame of that picture.

    A series is drawn as lines, and a volume is shown by the slice with the most foreground.

    Args:
        image: (*S, C), not necessarily of the size of the masks.
        masks: (*S) or (K, *S) of one size; the first one determines the slice, the middle one of
            several with equal foreground.
        classes: The values, or channels, that count as foreground.

    Returns:
        (H, W, 3) of at most `LARGEST` pixels per side, and the masks, (H, W) or (K, H, W).
    """
    if image.ndim == 2:
        return draw_series(image), [series_bands(mask) for mask in masks]
    if image.ndim == 3:
        return _in_one_size(image, masks)
    counts = foreground_of_slices(masks[0], classes)  # (z,)
    best = np.flatnonzero(counts == counts.max())
    z = int(best[len(best) // 2])
    own = min(len(image) - 1, int((z + 0.5) * len(image) / len(counts)))
    plane = to_grey(image[..., 0])[own]
    return _in_one_size(plane, [mask[..., z, :, :] for mask in masks])


def evenly_spread_slices(mask: NDArray[Any], classes: Iterable[int], limit: int) -> list[int]:
    """Returns indices of up to `limit` slices, spread evenly over those with foreground, or all.

    Args:
        mask: (z, y, x) classes or multi-label (K, z, y, x).
        classes: Values, or channels, that count as foreground.
        limit: Number of slices at most.
    """
    holding = np.flatnonzero(foreground_of_slices(mask, classes))
    if not len(holding):
        holding = np.arange(mask.shape[-3])
    places = np.linspace(0, len(holding) - 1, min(limit, len(holding))).round().astype(int)
    return [int(z) for z in holding[places]]


def foreground_of_slices(mask: NDArray[Any], classes: Iterable[int]) -> NDArray[np.int64]:
    """Counts the foreground pixels of each slice, (z,).

    Args:
        mask: (z, y, x) classes or multi-label (K, z, y, x).
        classes: Values, or channels, that count as foreground.
    """
    chosen = list(classes)
    counts = []
    for z in range(mask.shape[-3]):  # slice by slice: a mask in a file may exceed the memory
        part = mask[..., z, :, :]
        found = (part[chosen] == 1).any(axis=0) if mask.ndim == 4 else np.isin(part, chosen)
        counts.append(int(found.sum()))
    return np.array(counts, np.int64)


def _in_one_size(
    plane: NDArray[Any], masks: Sequence[NDArray[Any]]
) -> tuple[Picture, list[NDArray[Any]]]:
    """Resizes an image to its masks (..., H, W), and both to at most `LARGEST` pixels per side."""
    sides = masks[0].shape[-2:]
    share = LARGEST / max(*sides, LARGEST)
    height, width = (max(1, round(side * share)) for side in sides)
    # If a mask keeps its size, these are the identity.
    rows, columns = (
        nearest_centres(new, old).numpy() for new, old in zip((height, width), sides, strict=True)
    )
    picture = to_rgb(plane)
    if picture.shape[:2] != (height, width):
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        picture = np.array(resized)
    return picture, [mask[..., rows, :][..., columns] for mask in masks]
