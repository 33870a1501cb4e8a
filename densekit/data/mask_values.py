"""What a mask file holds: stored values, whatever the file is made of.

H, W the size of the image, N planes of a multi-label mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit.data.stacks import ARRAY_SUFFIXES, TIFF_SUFFIXES, read_stack, stack_size

_INDEX_MODES = ("1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_COLOUR_MODES = ("RGB", "RGBA")


def stored_values(path: Path) -> NDArray[Any]:
    """The values of an index mask, a palette's index, or the planes of a stack.

    RGB files whose channels are equal are grey.

    Returns:
        (H, W), or (N, H, W) for a `.npy` or TIFF file of several planes; whole numbers.

    Raises:
        ValueError: Naming the file, if it cannot be read, holds fractions, or holds colours.
    """
    if _is_stack(path):
        planes = np.moveaxis(read_stack(path), -1, 0)
        return _whole(planes[0] if len(planes) == 1 else planes, path)
    image = _open(path)
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    if image.mode in _INDEX_MODES:
        return _whole(np.asarray(image), path)
    colours = np.asarray(image.convert("RGB"))
    if (colours == colours[:, :, :1]).all():
        return np.ascontiguousarray(colours[:, :, 0])
    raise ValueError(
        f"{path}: a mask of colours needs to be told their classes, `colours: {{name: [red, green,"
        f" blue]}}`; it holds {_listing(pack(colours))}"
    )


def stored_colours(path: Path) -> NDArray[Any]:
    """(H, W) int32 colours of a mask, red * 65536 + green * 256 + blue; palettes are looked up.

    Raises:
        ValueError: Naming the file, if it cannot be read.
    """
    return pack(np.asarray(_open(path).convert("RGB")))


def is_coloured(path: Path) -> bool:
    """Whether a file holds colours or a palette, from its header."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return False
    try:
        with Image.open(path) as image:
            return image.mode in ("P", *_COLOUR_MODES)
    except OSError:
        return False  # a TIFF of planes


def mask_size(path: Path) -> tuple[int, int]:
    """Height and width, from the file's header.

    Raises:
        ValueError: Naming the file, if it is no mask.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return stack_size(path)
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, Image.DecompressionBombError) as error:
        if path.suffix.lower() in TIFF_SUFFIXES and path.is_file():
            return stack_size(path)
        raise ValueError(f"{path}: not a readable mask: {error}") from error


def pack(colours: NDArray[Any]) -> NDArray[Any]:
    """(..., 3) uint8 colours as (...) int32 numbers 0xRRGGBB."""
    parts = colours.astype(np.int32)
    packed: NDArray[Any] = (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]
    return packed


def unpack(value: int) -> list[int]:
    """[red, green, blue] of a packed colour."""
    return [value >> 16, value >> 8 & 255, value & 255]


def _is_stack(path: Path) -> bool:
    """Whether the file is an array, or a TIFF that Pillow would read in part or not at all."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in ARRAY_SUFFIXES
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1 or image.mode not in _INDEX_MODES
    except OSError:
        return path.is_file()


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable mask: {error}") from error


def _whole(values: NDArray[Any], path: Path) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        return values
    if not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise ValueError(f"{path}: a mask holds whole numbers, found {np.unique(values)[:5]}")
    return values.astype(np.int64)


def _listing(packed: NDArray[Any]) -> str:
    values, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts)[:10]
    shown = [f"{unpack(int(values[i]))} ({counts[i]} pixels)" for i in order]
    return ", ".join(shown) + (", ..." if len(values) > 10 else "")
