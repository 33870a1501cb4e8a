"""Reads images in the form that the data configuration declares.

C channels, H and W the size of an image.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from densekit._names import counted
from densekit.data.reading.bit_depths import (
    DEEP_MODES,
    Rescaling,
    decoding,
    find_rescaling,
    has_more_channels,
    is_deep_colour,
    num_pages,
    raw_mode,
)
from densekit.data.reading.jpeg import decode_jpeg
from densekit.data.reading.orientation import (
    UPRIGHT,
    orientation_of,
    sizes_of,
    stored_size_of,
    turned,
    unturned,
)
from densekit.data.reading.stacks import (
    ARRAY_SUFFIXES,
    TIFF_SUFFIXES,
    read_deep_png,
    read_stack,
    stack_orientation,
    stack_size,
)
from densekit.data.reading.truncation import check_jpeg, check_whole

_log = logging.getLogger("densekit.data")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageReader:
    """Reads the images of one data set in one declared form.

    Args:
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); other images are converted, with one warning per
            data set. Any other number of channels is read from TIFF and `.npy` files.
        dtype: "uint8", or "float32" for stored values of any bit depth, unscaled. With `intensity`
            it is always "float32".
        intensity: The rule that scales stored values; see `densekit.data.reading.intensity`.
    """

    def __init__(
        self,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels: expected a whole number from 1, got {channels!r}")
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"dtype: expected 'uint8' or 'float32', got {dtype!r}")
        self.channels = channels
        self.dtype = "float32" if intensity else dtype
        self.intensity = _checked_rule(intensity, channels) if intensity else None
        # Shared between loader workers, so that a warning appears once and not once per worker.
        self._warned = torch.zeros(4, dtype=torch.uint8).share_memory_()

    @property
    def declared(self) -> str:
        """The declared form as text; readers of equal text read a file to equal images."""
        return f"{self.channels} {self.dtype} {self.intensity}"

    def describe(self) -> dict[str, Any]:
        """Channels, dtype and, if there is one, the intensity rule of the images."""
        intensity = {} if self.intensity is None else {"intensity": self.intensity}
        return {"channels": self.channels, "dtype": self.dtype, **intensity}

    def __call__(self, path: Path, size: tuple[int, int] | None = None) -> NDArray[Any]:
        """Reads one image.

        Args:
            path: The file.
            size: Annotated height and width. The EXIF orientation is applied if the turned image
                has this size, even if the stored image has it too; None always applies it.

        Returns:
            (H, W, C) uint8 or float32.

        Raises:
            ValueError: If the file cannot be decoded, or its size is not the annotated one, its
                channels are not the declared ones, it has more than 8 bits for uint8, or holds
                values that are not finite.
        """
        if self._is_stack(path):
            stored, orientation = self._checked(read_stack(path), path), stack_orientation(path)
        else:
            stored, orientation = self._decoded(path)
        check_finite(stored, path)
        array = self._upright(stored, orientation, path, size)
        if self.intensity is None:
            return array
        from densekit.data.reading.intensity import scale

        return scale(array, self.intensity)

    def _is_stack(self, path: Path) -> bool:
        """Whether `read_stack` reads the file, because Pillow cannot do so without loss."""
        suffix = path.suffix.lower()
        if suffix in ARRAY_SUFFIXES:
            return True
        if self.channels in _MODES:
            return suffix in TIFF_SUFFIXES and not _pillow_keeps(path, self.channels)
        if suffix not in TIFF_SUFFIXES:
            raise ValueError(
                f"{path}: expected {', '.join((*TIFF_SUFFIXES, *ARRAY_SUFFIXES))} for the declared"
                f" {self.channels} channels, got {suffix!r}, of which 1, 3 or 4 are read"
            )
        return True

    def _checked(self, array: NDArray[Any], path: Path) -> NDArray[Any]:
        """Stored values in the declared dtype; refuses other channels and lossy conversion."""
        if array.shape[2] != self.channels:
            raise ValueError(
                f"{path}: expected {counted(self.channels, 'channel')} as declared, got"
                f" {array.shape[2]}"
            )
        if self.dtype == "uint8" and array.dtype not in (np.uint8, np.bool_):
            raise ValueError(_deep(path, str(array.dtype)))
        return array.astype(self.dtype)

    def _decoded(self, path: Path) -> tuple[NDArray[Any], int]:
        """(H, W, C) stored image in the declared form, and its EXIF orientation."""
        with decoding(path, "image"), Image.open(path) as file:
            deep = len(file.getbands()) if is_deep_colour(file) else 0
            self._check_depth(file, path)
            rescaling = find_rescaling(file)
            if file.format in _ANIMATED and (frames := getattr(file, "n_frames", 1)) > 1:
                self._warn(3, f"{path}: only the first of {frames} frames is read")
            orientation = orientation_of(file)
            jpeg = self._jpeg(file, path)
            if jpeg is not None:
                return jpeg, orientation
            file.load()  # detects a truncated file, which OpenCV would read in part
            check_whole(file, path)
            upright = file.format == "TIFF"  # Pillow turns these itself
            if deep:  # OpenCV turns a transparent colour into one more channel
                array = self._checked(read_deep_png(path)[:, :, :deep], path)
            else:
                array = self._as_array(file, path, rescaling)
        return (unturned(array, orientation) if upright else array), orientation

    def _jpeg(self, image: Image.Image, path: Path) -> NDArray[Any] | None:
        """(H, W, C) of a JPEG with the declared channels, None for any other file."""
        if image.format != "JPEG" or image.mode != _MODES[self.channels]:
            return None
        array = decode_jpeg(path, self.channels)
        if array is not None:
            check_jpeg(array[-1, -1], path)
            array = array.astype(self.dtype, copy=False)
        return array

    def _check_depth(self, image: Image.Image, path: Path) -> None:
        if is_deep_colour(image):
            self._check_deep_colour(image, path)
        if image.mode in DEEP_MODES and self.dtype == "uint8":
            raise ValueError(_deep(path, f"mode {image.mode}"))
        pages = num_pages(image)
        if pages > 1:  # Pillow would silently read the first one
            raise ValueError(
                f"{path}: expected one page of {counted(self.channels, 'channel')}, got {pages}"
                f" pages; set channels: {pages} if the pages are channels"
            )

    def _check_deep_colour(self, image: Image.Image, path: Path) -> None:
        stored = raw_mode(image)
        if self.dtype == "uint8":
            raise ValueError(_deep(path, f"{stored} of 16 bits"))
        if image.format != "PNG" or not stored.startswith("RGB"):
            raise ValueError(
                f"{path}: expected PNG or TIFF for RGB and RGBA of 16 bits, got {image.format} of"
                f" {stored}"
            )

    def _upright(
        self, stored: NDArray[Any], orientation: int, path: Path, size: tuple[int, int] | None
    ) -> NDArray[Any]:
        """The image in the orientation that has the annotated size."""
        height, width = stored.shape[:2]
        accepted = sizes_of((height, width), orientation)
        if size is not None and size not in accepted:
            raise ValueError(_other_size(path, (height, width), size))
        if orientation == UPRIGHT:
            return stored
        if size not in (None, accepted[0]):
            fits = "the stored image has the annotated size"
            self._warn(0, f"{path}: EXIF orientation {orientation} not applied: {fits}")
            return stored
        both = ", though the annotated size fits both ways" * (size == accepted[1])
        self._warn(0, f"{path}: EXIF orientation {orientation} applied{both}")
        return turned(stored, orientation)

    def _as_array(
        self, image: Image.Image, path: Path, rescaling: Rescaling | None
    ) -> NDArray[Any]:
        """(H, W, C) in the declared form; the stored values unless that has 8 bits."""
        mode = _MODES[self.channels]
        unscaled = self.dtype != "uint8"
        if image.mode in DEEP_MODES or (image.mode == "1" and unscaled):
            array = np.asarray(image)
            array = (array if rescaling is None else rescaling.stored(array)).astype(np.float32)
            return np.repeat(array[:, :, None], self.channels, axis=2)
        if image.mode != mode:
            if mode != "L" or image.mode != "1":
                self._warn(1, f"{path}: {image.mode} image converted to the declared {mode}")
            if mode != "RGBA":  # Pillow would warn that it drops the transparency
                image.info.pop("transparency", None)
            image = image.convert(mode)
        array = np.array(image)
        if rescaling is not None and unscaled:
            array = rescaling.stored(array)
        elif rescaling is not None and rescaling.largest not in (1, 255):
            self._warn(2, f"{path}: 0..{rescaling.largest} rescaled to the declared 8 bits")
        array = array.astype(self.dtype, copy=False)
        return array[:, :, None] if array.ndim == 2 else array

    def _warn(self, slot: int, message: str) -> None:
        if not self._warned[slot]:
            self._warned[slot] = 1
            _log.warning("%s (reported once per data set)", message)


def _pillow_keeps(path: Path, channels: int) -> bool:
    """Whether Pillow reads a TIFF without loss; it is preferred, as it knows more compressions."""
    try:
        with Image.open(path) as image:
            pages = num_pages(image)
            # channels=3 declares red, green and blue; further channels may be dropped.
            lost = has_more_channels(image) and (image.mode != "RGB" or channels == 4)
            return not (lost or is_deep_colour(image)) and (pages == 1 or pages != channels)
    except Exception:  # Pillow raises anything; tifffile reports what is wrong
        return False


def _checked_rule(intensity: Mapping[str, Any], channels: int) -> dict[str, Any] | None:
    from densekit.data.reading.intensity import check_channels, check_rule

    check_channels(intensity, channels)
    return check_rule(intensity)


def _other_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> str:
    return (
        f"{path}: expected the annotated height x width {size[0]} x {size[1]}, got"
        f" {found[0]} x {found[1]}"
    )


def _deep(path: Path, found: str) -> str:
    return (
        f"{path}: expected 8 bits per channel as declared, got more ({found}); set dtype: float32"
        " to keep the values as they are"
    )


def check_finite(array: NDArray[Any], path: Path) -> None:
    """Refuses stored values that are NaN or infinite: every result of such an image is wrong.

    Raises:
        ValueError: With the file and the number of such values.
    """
    if array.dtype.kind == "f" and (broken := array.size - int(np.isfinite(array).sum())):
        raise ValueError(f"{path}: expected finite values, got {broken:,} NaN or infinite ones")


def read_image(path: str | Path, channels: int = 3, dtype: str = "uint8") -> NDArray[Any]:
    """Reads one image file as (H, W, C), upright; see `ImageReader`."""
    return ImageReader(channels, dtype)(Path(path))


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright image, from the file's header alone.

    Raises:
        ValueError: If the file is not an image, with its path.
    """
    return possible_sizes(path)[0]


def size_if_readable(path: Path) -> tuple[int, int]:
    """Height and width as from `stored_size`, (1, 1) for a broken file.

    Broken files are reported when they are read: all of a data set together, so that they can be
    left out.
    """
    try:
        return stored_size(path)
    except ValueError:
        return 1, 1


def possible_sizes(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the upright image, and of the stored one.

    Raises:
        ValueError: If the file is not an image, with its path.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return sizes_of(stack_size(path), UPRIGHT)
    try:
        with decoding(path, "image"), Image.open(path) as image:
            return sizes_of(stored_size_of(image), orientation_of(image))
    except ValueError:
        if path.suffix.lower() in TIFF_SUFFIXES and path.is_file():
            return sizes_of(stack_size(path), stack_orientation(path))  # channels beyond Pillow's
        raise
