"""Reading an image as the data configuration declares it, never as a guess.

C channels, H and W the size that is annotated.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

_log = logging.getLogger("densekit.data")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112


class ImageReader:
    """Opens the images of one data set in one declared form.

    Args:
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). Images of another kind are converted, with one
            warning a data set.
        dtype: "uint8", or "float32" for the stored values of any depth, unscaled.
    """

    def __init__(self, channels: int = 3, dtype: str = "uint8") -> None:
        if channels not in _MODES:
            raise ValueError(f"channels: accepted are 1 (grey), 3 (RGB), 4 (RGBA); not {channels}")
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"dtype: accepted are 'uint8' and 'float32', found {dtype!r}")
        self.channels = channels
        self.dtype = dtype
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
            ValueError: Naming the file, if it cannot be decoded, has another size than annotated or
                more than 8 bits where uint8 is declared.
        """
        try:
            with Image.open(path) as file:
                self._check_depth(file, path)
                file.load()
                image = self._upright(file, path, size)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: not a readable image: {error}") from error
        return self._as_array(image, path)

    def _check_depth(self, image: Image.Image, path: Path) -> None:
        # Pillow drops the low byte of 16-bit colour without a word: only the raw mode tells.
        tiles = getattr(image, "tile", ())
        if any(";16" in str(tile[3]) for tile in tiles) and image.mode not in _DEEP_MODES:
            raise ValueError(
                f"{path}: colour with 16 bits a channel would lose its low byte; store it with 8"
                " bits, or one channel a file"
            )
        if image.mode in _DEEP_MODES and self.dtype == "uint8":
            raise ValueError(
                f"{path}: more than 8 bits a pixel (mode {image.mode}) where 8 are declared;"
                " set dtype: float32 to keep the values as they are"
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
            raise ValueError(
                f"{path}: the image has height x width {height} x {width}, its annotation says"
                f" {size[0]} x {size[1]}"
            )
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


def read_image(path: str | Path, channels: int = 3, dtype: str = "uint8") -> NDArray[Any]:
    """One image file as (H, W, C), upright; see `ImageReader`."""
    return ImageReader(channels, dtype)(Path(path))


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width after the EXIF orientation, from the file's header alone.

    Raises:
        ValueError: Naming the file, if it is no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except OSError as error:
        raise ValueError(f"{path}: not a readable image: {error}") from error
