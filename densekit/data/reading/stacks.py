"""Images of any bit depth and channel count: TIFF files, NumPy arrays, 16-bit PNG.

H, W the size of the image, C its channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.reading.bit_depths import decoding
from densekit.data.reading.limits import check_pixels
from densekit.data.reading.orientation import TAG, UPRIGHT

ARRAY_SUFFIXES = (".npy",)
TIFF_SUFFIXES = (".tif", ".tiff")


def read_stack(path: Path) -> NDArray[Any]:
    """Reads the stored values of a TIFF or `.npy` file.

    The pages or planes of a TIFF are its channels. A NumPy array is (H, W), (H, W, C) or (C, H, W);
    the shorter of its first and last axis is taken as the channels.

    Returns:
        (H, W, C) in the stored dtype.

    Raises:
        ValueError: If the file cannot be read or has another number of axes, with its path.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = _load(path)
        with decoding(path, "NumPy array"):
            return np.array(array.transpose(_order(path, array.shape)).reshape(_sizes(path)))
    with decoding(path, "TIFF"), _open_tiff(path) as tiff:
        series = _series(path, tiff)
        order = _order(path, series.shape, series.axes)
        height, width, channels = _sides(path, series.shape, order)
        array = series.asarray()
        return np.ascontiguousarray(array.transpose(order).reshape(height, width, channels))


def holds_colours(path: Path) -> bool:
    """Whether the channels of a TIFF are red, green and blue rather than independent planes."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    with decoding(path, "TIFF"), _open_tiff(path) as tiff:
        return str(_series(path, tiff).pages[0].photometric.name) == "RGB"


def read_deep_png(path: Path) -> NDArray[Any]:
    """Reads the stored values of a PNG with 16 bits per channel, of which Pillow keeps eight.

    Returns:
        (H, W, C) uint16, RGB or RGBA.

    Raises:
        ValueError: If the file cannot be read, with its path.
    """
    import cv2

    stored: Any = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError(f"{path}: expected a readable image, got one that OpenCV cannot decode")
    return np.ascontiguousarray(stored[:, :, [2, 1, 0, 3][: stored.shape[2]]])  # from BGR


def stack_size(path: Path) -> tuple[int, int]:
    """Height and width of a TIFF or `.npy` file, from its header alone."""
    return _sizes(path)[:2]


def stack_orientation(path: Path) -> int:
    """EXIF orientation of a TIFF, 1 to 8; 1 for a `.npy` file."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return UPRIGHT
    with decoding(path, "TIFF"), _open_tiff(path) as tiff:
        tag = tiff.pages[0].tags.get(TAG)
        orientation = UPRIGHT if tag is None else int(tag.value)
    return orientation if orientation in range(1, 9) else UPRIGHT


def _sizes(path: Path) -> tuple[int, int, int]:
    """(H, W, C) from the header."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        shape = _load(path).shape
        order = _order(path, shape)
    else:
        with decoding(path, "TIFF"), _open_tiff(path) as tiff:
            series = _series(path, tiff)
            shape, order = series.shape, _order(path, series.shape, series.axes)
    return _sides(path, shape, order)


def _sides(path: Path, shape: Sequence[int], order: Sequence[int]) -> tuple[int, int, int]:
    """(H, W, C) of an array, each at least 1 and together within the limit."""
    height, width, *others = (int(shape[axis]) for axis in order)
    channels = math.prod(others)
    if min(height, width, channels) < 1:
        raise ValueError(f"{path}: expected an image with pixels, got the shape {tuple(shape)}")
    check_pixels(path, height, width, channels)
    return height, width, channels


def _order(path: Path, shape: tuple[int, ...], axes: str = "") -> list[int]:
    """The array's axes in the order H, W, C; `axes` are tifffile's letters."""
    if not axes:
        first = len(shape) == 3 and shape[0] < shape[-1]
        axes = {2: "YX", 3: "CYX" if first else "YXC"}.get(len(shape), "")
    others = [i for i, letter in enumerate(axes) if letter not in "YX"]
    if axes.count("Y") != 1 or axes.count("X") != 1 or sum(shape[i] > 1 for i in others) > 1:
        raise ValueError(
            f"{path}: expected an image of height, width and channels, got an array of shape"
            f" {tuple(shape)}"
        )
    return [axes.index("Y"), axes.index("X"), *others]


def _load(path: Path) -> NDArray[Any]:
    """The array in the file, which must be as long as its header says; its values are not read."""
    with decoding(path, "NumPy array"):
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: expected numbers, got an array of {array.dtype}")
    return array


def _series(path: Path, tiff: Any) -> Any:
    with decoding(path, "TIFF"):
        if not tiff.series:
            raise ValueError("one without images")
        return tiff.series[0]


def _open_tiff(path: Path) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(
            f"{path}: a TIFF of many channels or bits needs tifffile: pip install 'densekit[tiles]'"
        ) from error
    return tifffile.TiffFile(path)
