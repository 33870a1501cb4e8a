"""EXIF orientations: turns stored images upright and back.

H, W the size of an image, C its channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TAG = 0x0112
UPRIGHT = 1
SWAPPING = (5, 6, 7, 8)
"""The EXIF orientations that swap height and width."""

_INVERSE = {6: 8, 8: 6}
_TAGS_OF_SIZE = (257, 256)  # height and width, of TIFF


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if it is missing or unreadable, as viewers do."""
    try:
        orientation = image.getexif().get(TAG, UPRIGHT)
    except Exception:  # each kind of damage raises its own
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def stored_size_of(image: Image.Image) -> tuple[int, int]:
    """Height and width as stored; Pillow reports those of a TIFF upright."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return image.height, image.width
    height, width = (int(tags[tag]) for tag in _TAGS_OF_SIZE)
    return height, width


def sizes_of(stored: tuple[int, int], orientation: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the upright image, and of the stored one."""
    return (stored[::-1] if orientation in SWAPPING else stored), stored


def turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turns a stored image (H, W, C) upright, for `orientation` 1 to 8."""
    if orientation in SWAPPING:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def unturned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turns an upright image (H, W, C) back to its stored orientation."""
    return turned(image, _INVERSE.get(orientation, orientation))
