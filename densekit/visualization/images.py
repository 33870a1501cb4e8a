"""Converts images and volumes of any kind to (H, W, 3) uint8 pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from densekit._files import replacing

Picture = NDArray[np.uint8]
LARGEST = 640
"""Longer side in pixels to which larger images of a run are shrunk."""
READABLE_SIDE = 480
"""Longer side in pixels below which images are enlarged, so that names are legible."""


def to_rgb(image: ArrayLike) -> Picture:
    """Converts any image to (H, W, 3) uint8 RGB.

    Args:
        image: (H, W) or (H, W, C). uint8 keeps its values; other types are stretched from their
            1st to their 99th percentile. Of one or two channels the first becomes grey, of more
            than three the first three are used.
    """
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    array = array[..., :1].repeat(3, axis=2) if array.shape[2] < 3 else array[..., :3]
    if array.dtype != np.uint8:
        low, high = np.percentile(array, (1, 99)) if array.size else (0.0, 1.0)
        array = ((array - low) / max(float(high - low), 1e-12)).clip(0, 1) * 255
    return np.ascontiguousarray(array.astype(np.uint8))


def at_most(image: ArrayLike, side: int) -> Picture:
    """Converts an image by `to_rgb`, and shrinks its longer side to at most `side` pixels."""
    picture = to_rgb(image)
    height, width = picture.shape[:2]
    share = side / max(height, width, side)
    return np.array(resized(picture, round(width * share), round(height * share)))


def to_grey(volume: NDArray[Any]) -> Picture:
    """Converts a volume (z, y, x) to uint8, stretched from its 0.5th to its 99.5th percentile."""
    low, high = np.percentile(volume, (0.5, 99.5)) if volume.size else (0.0, 1.0)
    scaled = (volume - low) / max(float(high - low), 1e-12)
    return (scaled.clip(0, 1) * 255).astype(np.uint8)


def save_picture(image: ArrayLike, path: str | Path) -> None:
    """Writes an image in the format of its suffix; creates the folder if needed."""
    with replacing(path) as part:
        Image.fromarray(to_rgb(image)).save(part)


def enlarged(picture: Picture) -> tuple[Image.Image, int]:
    """Enlarges a picture to at least `READABLE_SIDE` by an integer factor; returns both."""
    height, width = picture.shape[:2]
    factor = math.ceil(READABLE_SIDE / max(height, width))
    return resized(picture, width * factor, height * factor), factor


def resized(picture: Picture, width: int, height: int) -> Image.Image:
    """Resizes a picture to a Pillow image to draw on."""
    image = Image.fromarray(picture)
    size = (max(1, width), max(1, height))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
