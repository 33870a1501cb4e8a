"""Reading an image as the data configuration declares it, never as a guess.

C channels, H and W the size that is annotated.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from densekit.data.stacks import (
    ARRAY_SUFFIXES,
    TIFF_SUFFIXES,
    read_deep_png,
    read_stack,
    stack_size,
)

_log = logging.getLogger("densekit.data")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112


class ImageReader:
    """Opens the images of one data set in one declared form.

    Args:
        channels: 1 (grey), 3 (RGB) or 4 (RGBA): images of another kind are converted, with one
            warning a data set. Any other number is read from TIFF and `.npy` files.
        dtype: "uint8", or "float32" for the stored values of any depth, unscaled. With `intensity`
            it is always "float32".
        intensity: How stored values are brought to a scale; see `densekit.data.intensity`.
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
        self.intensity = _checked_rule(intensity) if intensity else None
        # Shared between loader workers, so that each of them does not warn again.
        self._warned = torch.zeros(2, dtype=torch.uint8).share_memory_()

    def __call__(self, path: Path, size: tuple[int, int] | None = None) -> NDArray[Any]:
        """Reads one image.

        Args:
            path: The file.
            size: Annotated height and width; the EXIF orientation is applied where the rotated
                image fits them. None applies it always.

        Returns:
            (H, W, C) uint8 or float32.

        Raises:
            ValueError: Naming the file, if it cannot be decoded, has another size than annotated,
                other channels than declared or more than 8 bits where uint8 is declared.
        """
        if self._is_stack(path):
            array = self._checked(read_stack(path), path, size)
        else:
            array = self._picture(path, size)
        if self.intensity is None:
            return array
        from densekit.data.intensity import scale

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

    def _checked(
        self, array: NDArray[Any], path: Path, size: tuple[int, int] | None
    ) -> NDArray[Any]:
        """Stored values of any depth in the declared dtype, if they are as declared."""
        if size is not None and array.shape[:2] != size:
            raise ValueError(_other_size(path, array.shape[:2], size))
        if array.shape[2] != self.channels:
            raise ValueError(
                f"{path}: {self.channels} channels are declared, found {array.shape[2]}"
            )
        if self.dtype == "uint8" and array.dtype not in (np.uint8, np.bool_):
            raise ValueError(_deep(path, str(array.dtype)))
        return array.astype(self.dtype)

    def _picture(self, path: Path, size: tuple[int, int] | None) -> NDArray[Any]:
        try:
            with Image.open(path) as file:
                deep = len(file.getbands()) if is_deep_colour(file) else 0
                self._check_depth(file, path)
                file.load()  # finds a truncated file, which OpenCV reads in part
                image = None if deep else self._upright(file, path, size)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: not a readable image: {error}") from error
        if image is None:
            # Without the channel that OpenCV makes of a transparent colour.
            return self._checked(read_deep_png(path)[:, :, :deep], path, size)
        return self._as_array(image, path)

    def _check_depth(self, image: Image.Image, path: Path) -> None:
        if is_deep_colour(image):
            self._check_deep_colour(image, path)
        if image.mode in _DEEP_MODES and self.dtype == "uint8":
            raise ValueError(_deep(path, f"mode {image.mode}"))
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if pages > 1:  # Pillow would read the first one without a word
            raise ValueError(
                f"{path}: {pages} pages where an image of {self.channels} channels is declared; set"
                f" channels: {pages} if the pages are channels"
            )

    def _check_deep_colour(self, image: Image.Image, path: Path) -> None:
        stored = _raw_mode(image)  # gone once the file is loaded, which looking for EXIF does
        if self.dtype == "uint8":
            raise ValueError(_deep(path, stored))
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        if image.format != "PNG" or turned or not stored.startswith("RGB"):
            raise ValueError(
                f"{path}: RGB and RGBA of 16 bits are read from upright PNG and from TIFF; found"
                f" {image.format} of {stored}{', turned by EXIF' * turned}"
            )

    def _upright(self, image: Image.Image, path: Path, size: tuple[int, int] | None) -> Image.Image:
        """The image in the orientation that fits the annotated size."""
        height, width = image.height, image.width
        orientation = image.getexif().get(_ORIENTATION, 1)
        turned = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
        apply = orientation in range(2, 9) and size in (None, turned)
        if orientation in range(2, 9):
            state = "applied" if apply else "not applied: the annotated size fits the stored image"
            self._warn(0, f"{path}: EXIF orientation {orientation} {state}")
        found = turned if apply else (height, width)
        if size is not None and found != size:
            raise ValueError(_other_size(path, found, size))
        return ImageOps.exif_transpose(image) if apply else image

    def _as_array(self, image: Image.Image, path: Path) -> NDArray[Any]:
        mode = _MODES[self.channels]
        if image.mode in _DEEP_MODES:
            array = np.asarray(image).astype(np.float32)[:, :, None]
            return np.repeat(array, self.channels, axis=2)
        if image.mode != mode:
            if mode != "L" or image.mode != "1":
                self._warn(1, f"{path}: {image.mode} image converted to the declared {mode}")
            with warnings.catch_warnings():  # "palette images with transparency"
                warnings.simplefilter("ignore")
                image = image.convert(mode)
        array = np.array(image, dtype=np.dtype(self.dtype))
        return array[:, :, None] if array.ndim == 2 else array

    def _warn(self, slot: int, message: str) -> None:
        if not self._warned[slot]:
            self._warned[slot] = 1
            _log.warning("%s (said once for this data set)", message)


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file that is not loaded yet has colours of 16 bits."""
    # Pillow drops the low byte of 16-bit colour without a word: only the raw mode tells.
    if image.format == "PPM":
        arguments = [tile[3] for tile in _tiles(image)]
        return image.mode == "RGB" and any(isinstance(a, tuple) and a[-1] > 255 for a in arguments)
    return ";16" in _raw_mode(image) and image.mode not in _DEEP_MODES


def _raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, `RGB;16B`, as far as that is known before it is loaded."""
    return " ".join(str(tile[3]) for tile in _tiles(image)[:1])


def _tiles(image: Image.Image) -> Any:
    """Pillow's (codec, box, offset, arguments) of each part of a file that is not loaded yet."""
    return getattr(image, "tile", ())


def _pillow_keeps(path: Path, channels: int) -> bool:
    """Whether Pillow reads all of this TIFF; where it does, it knows more compressions."""
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            return not is_deep_colour(image) and (pages == 1 or pages != channels)
    except OSError:
        return False


def _checked_rule(intensity: Mapping[str, Any]) -> dict[str, Any] | None:
    from densekit.data.intensity import check_rule

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


def possible_sizes(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width after the EXIF orientation, and without it.

    Raises:
        ValueError: Naming the file, if it is no image.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return (stack_size(path),) * 2
    try:
        with Image.open(path) as image:
            size = image.height, image.width
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (size[::-1] if turned else size), size
    except (OSError, Image.DecompressionBombError) as error:
        if path.suffix.lower() in TIFF_SUFFIXES and path.is_file():
            return (stack_size(path),) * 2  # more channels than Pillow knows
        raise ValueError(f"{path}: not a readable image: {error}") from error
