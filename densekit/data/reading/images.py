"""Reading an image as the data configuration declares it, never as a guess.

C channels, H and W the size that is annotated.
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

from densekit.data.reading.bit_depths import (
    DEEP_MODES,
    Spread,
    decoding,
    find_spread,
    has_more_channels,
    is_deep_colour,
    num_pages,
    raw_mode,
)
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
from densekit.data.reading.truncation import check_whole

_log = logging.getLogger("densekit.data")
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageReader:
    """Opens the images of one data set in one declared form.

    Args:
        channels: 1 (grey), 3 (RGB) or 4 (RGBA): images of another kind are converted, with one
            warning a data set. Any other number is read from TIFF and `.npy` files.
        dtype: "uint8", or "float32" for the stored values of any depth, unscaled. With `intensity`
            it is always "float32".
        intensity: How stored values are brought to a scale; see `densekit.data.reading.intensity`.
    """

    def __init__(
        self,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels: a number of 1 or more is needed, found {channels!r}")
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"dtype: accepted are 'uint8' and 'float32', found {dtype!r}")
        self.channels = channels
        self.dtype = "float32" if intensity else dtype
        self.intensity = _checked_rule(intensity, channels) if intensity else None
        # Shared between loader workers, so that each of them does not warn again.
        self._warned = torch.zeros(4, dtype=torch.uint8).share_memory_()

    @property
    def declared(self) -> str:
        """What files are read as, in words: images read by equal ones are equal."""
        return f"{self.channels} {self.dtype} {self.intensity}"

    def describe(self) -> dict[str, Any]:
        """Channels and dtype of the images, and their intensity where there is one."""
        intensity = {} if self.intensity is None else {"intensity": self.intensity}
        return {"channels": self.channels, "dtype": self.dtype, **intensity}

    def __call__(self, path: Path, size: tuple[int, int] | None = None) -> NDArray[Any]:
        """Reads one image.

        Args:
            path: The file.
            size: Annotated height and width; the EXIF orientation is applied where the turned
                image fits them, so also where both ways fit. None applies it always.

        Returns:
            (H, W, C) uint8 or float32.

        Raises:
            ValueError: Naming the file, if it cannot be decoded, has another size than annotated,
                other channels than declared or more than 8 bits where uint8 is declared.
        """
        if self._is_stack(path):
            stored, orientation = self._checked(read_stack(path), path), stack_orientation(path)
        else:
            stored, orientation = self._picture(path)
        array = self._upright(stored, orientation, path, size)
        if self.intensity is None:
            return array
        from densekit.data.reading.intensity import scale

        return scale(array, self.intensity)

    def _is_stack(self, path: Path) -> bool:
        """Whether Pillow cannot read the file without loss."""
        suffix = path.suffix.lower()
        if suffix in ARRAY_SUFFIXES:
            return True
        if self.channels in _MODES:
            return suffix in TIFF_SUFFIXES and not _pillow_keeps(path, self.channels)
        if suffix not in TIFF_SUFFIXES:
            raise ValueError(
                f"{path}: {self.channels} channels are declared; such images are read from"
                f" {', '.join((*TIFF_SUFFIXES, *ARRAY_SUFFIXES))}, other files have 1, 3 or 4"
            )
        return True

    def _checked(self, array: NDArray[Any], path: Path) -> NDArray[Any]:
        """Stored values of any depth in the declared dtype, if they are as declared."""
        if array.shape[2] != self.channels:
            raise ValueError(
                f"{path}: {self.channels} channels are declared, found {array.shape[2]}"
            )
        if self.dtype == "uint8" and array.dtype not in (np.uint8, np.bool_):
            raise ValueError(_deep(path, str(array.dtype)))
        return array.astype(self.dtype)

    def _picture(self, path: Path) -> tuple[NDArray[Any], int]:
        """What a file stores in the declared form, and its orientation."""
        with decoding(path, "image"), Image.open(path) as file:
            deep = len(file.getbands()) if is_deep_colour(file) else 0
            self._check_depth(file, path)
            spread = find_spread(file)
            if file.format in _MOVING and (frames := getattr(file, "n_frames", 1)) > 1:
                self._warn(3, f"{path}: the first of {frames} frames is read")
            orientation = orientation_of(file)
            file.load()  # finds a truncated file, which OpenCV reads in part
            check_whole(file, path)
            upright = file.format == "TIFF"  # Pillow turns these itself
            if deep:  # without the channel that OpenCV makes of a transparent colour
                array = self._checked(read_deep_png(path)[:, :, :deep], path)
            else:
                array = self._as_array(file, path, spread)
        return (unturned(array, orientation) if upright else array), orientation

    def _check_depth(self, image: Image.Image, path: Path) -> None:
        if is_deep_colour(image):
            self._check_deep_colour(image, path)
        if image.mode in DEEP_MODES and self.dtype == "uint8":
            raise ValueError(_deep(path, f"mode {image.mode}"))
        pages = num_pages(image)
        if pages > 1:  # Pillow would read the first one without a word
            raise ValueError(
                f"{path}: {pages} pages where an image of {self.channels} channels is declared; set"
                f" channels: {pages} if the pages are channels"
            )

    def _check_deep_colour(self, image: Image.Image, path: Path) -> None:
        stored = raw_mode(image)
        if self.dtype == "uint8":
            raise ValueError(_deep(path, f"{stored} of 16 bits"))
        if image.format != "PNG" or not stored.startswith("RGB"):
            raise ValueError(
                f"{path}: RGB and RGBA of 16 bits are read from PNG and from TIFF; found"
                f" {image.format} of {stored}"
            )

    def _upright(
        self, stored: NDArray[Any], orientation: int, path: Path, size: tuple[int, int] | None
    ) -> NDArray[Any]:
        """The image in the orientation that fits the annotated size."""
        height, width = stored.shape[:2]
        accepted = sizes_of((height, width), orientation)
        if size is not None and size not in accepted:
            raise ValueError(_other_size(path, (height, width), size))
        if orientation == UPRIGHT:
            return stored
        if size not in (None, accepted[0]):
            fits = "the annotated size fits the stored image"
            self._warn(0, f"{path}: EXIF orientation {orientation} not applied: {fits}")
            return stored
        both = ", the annotated size fits both ways" * (size is not None and size == accepted[1])
        self._warn(0, f"{path}: EXIF orientation {orientation} applied{both}")
        return turned(stored, orientation)

    def _as_array(self, image: Image.Image, path: Path, spread: Spread | None) -> NDArray[Any]:
        """(H, W, C) of the declared form; stored numbers where it is not of 8 bits."""
        mode = _MODES[self.channels]
        unscaled = self.dtype != "uint8"
        if image.mode in DEEP_MODES or (image.mode == "1" and unscaled):
            array = np.asarray(image)
            array = (array if spread is None else spread.stored(array)).astype(np.float32)
            return np.repeat(array[:, :, None], self.channels, axis=2)
        if image.mode != mode:
            if mode != "L" or image.mode != "1":
                self._warn(1, f"{path}: {image.mode} image converted to the declared {mode}")
            if mode != "RGBA":  # Pillow warns of opacities that it leaves out
                image.info.pop("transparency", None)
            image = image.convert(mode)
        array = np.array(image)
        if spread is not None and unscaled:
            array = spread.stored(array)
        elif spread is not None and spread.largest not in (1, 255):
            self._warn(2, f"{path}: 0..{spread.largest} spread to the declared 8 bits")
        array = array.astype(self.dtype, copy=False)
        return array[:, :, None] if array.ndim == 2 else array

    def _warn(self, slot: int, message: str) -> None:
        if not self._warned[slot]:
            self._warned[slot] = 1
            _log.warning("%s (said once for this data set)", message)


def _pillow_keeps(path: Path, channels: int) -> bool:
    """Whether Pillow reads all of this TIFF; where it does, it knows more compressions."""
    try:
        with Image.open(path) as image:
            pages = num_pages(image)
            # What is asked for is red, green and blue, whatever else the file has.
            lost = has_more_channels(image) and (image.mode != "RGB" or channels == 4)
            return not (lost or is_deep_colour(image)) and (pages == 1 or pages != channels)
    except Exception:  # Pillow raises whatever it meets; tifffile says what is wrong
        return False


def _checked_rule(intensity: Mapping[str, Any], channels: int) -> dict[str, Any] | None:
    from densekit.data.reading.intensity import check_channels, check_rule

    check_channels(intensity, channels)
    return check_rule(intensity)


def _other_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> str:
    return (
        f"{path}: the image has height x width {found[0]} x {found[1]}, its annotation says"
        f" {size[0]} x {size[1]}"
    )


def _deep(path: Path, found: str) -> str:
    return (
        f"{path}: more than 8 bits a pixel ({found}) where 8 are declared; set dtype: float32 to"
        " keep the values as they are"
    )


def read_image(path: str | Path, channels: int = 3, dtype: str = "uint8") -> NDArray[Any]:
    """One image file as (H, W, C), upright; see `ImageReader`."""
    return ImageReader(channels, dtype)(Path(path))


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width after the EXIF orientation, from the file's header alone.

    Raises:
        ValueError: Naming the file, if it is no image.
    """
    return possible_sizes(path)[0]


def size_if_readable(path: Path) -> tuple[int, int]:
    """Height and width as `stored_size`, (1, 1) of a broken file: reading it says what is wrong.

    So all broken files of a data set are found together, and can be left out.
    """
    try:
        return stored_size(path)
    except ValueError:
        return 1, 1


def possible_sizes(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width after the EXIF orientation, and without it.

    Raises:
        ValueError: Naming the file, if it is no image.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return sizes_of(stack_size(path), UPRIGHT)
    try:
        with decoding(path, "image"), Image.open(path) as image:
            return sizes_of(stored_size_of(image), orientation_of(image))
    except ValueError:
        if path.suffix.lower() in TIFF_SUFFIXES and path.is_file():
            return sizes_of(stack_size(path), stack_orientation(path))  # more channels than Pillow
        raise
