"""Inputs of a predictor: one image or many, as paths, arrays, tensors or PIL images.

Shape letters: C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.Image import Image as Picture
from torch import Tensor

from densekit.data.medical.grids import Volume
from densekit.data.reading.bit_depths import DEEP_MODES

if TYPE_CHECKING:
    Image = str | Path | NDArray[Any] | Tensor | Picture | Volume

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
KINDS = "a path, an array, a tensor or a PIL image"
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in grey, in 1/65536, as in ITU-R 601 and Pillow."""
SLACK = 0.1
"""Share of the full scale by which resized images may overshoot it."""


def each(images: Image | Iterable[Image], dims: int) -> Iterator[Image]:
    """Iterates over one image or many.

    Args:
        images: One image; or an iterable of them, a tensor (N, C, *S) or an array (N, *S, C).
        dims: D.

    Raises:
        TypeError: `images` is neither an image nor an iterable of images.
        ValueError: An array or tensor has too many axes.
    """
    if isinstance(images, str | Path | Picture | Volume):
        return iter([images])
    if isinstance(images, np.ndarray | Tensor) and not _holds_objects(images):
        if images.ndim > dims + 2:
            raise ValueError(f"images: expected at most {dims + 2} axes, got {tuple(images.shape)}")
        return iter([images]) if images.ndim <= dims + 1 else iter(images)
    if isinstance(images, Mapping | bytes) or not isinstance(images, Iterable):
        raise TypeError(f"images: expected {KINDS}, or several, got {type(images).__name__}")
    return iter(images)


def channels_first(
    image: Any, dims: int, channels: int, *, deep: bool, full_scale: float | None, where: str
) -> Tensor:
    """Returns an image as (C, *S) uint8 or float, converted to C channels as files are.

    Args:
        image: Tensor (C, *S) or (*S), array (*S, C) or (*S), or a PIL image. In 2-D, grey is
            repeated to three channels, colour becomes grey for one channel, and an alpha channel
            is dropped, as the model's channels require.
        dims: D.
        channels: C of the model.
        deep: Whether the model takes stored values of any depth, unscaled.
        full_scale: The value of a white pixel, which floats must fit; None checks no range.
        where: Name of the image in messages.

    Raises:
        ValueError: The shape is wrong, or values are missing, not finite or in another unit.
        TypeError: The model was not trained with this type, or it is not an image.
    """
    if isinstance(image, Picture):
        image = _pixels_of(image, channels, where)
    tensor = _tensor(image, dims, where)
    if tensor.dtype != torch.uint8:
        if tensor.is_complex() or not (deep or tensor.is_floating_point()):
            raise TypeError(f"{where}: expected uint8 or floats, got {tensor.dtype}")
        tensor = tensor if tensor.is_floating_point() else tensor.float()
    tensor = _in_channels(tensor, dims, channels)
    if tensor.ndim != dims + 1 or tensor.shape[0] != channels:
        raise ValueError(
            f"{where}: expected ({channels}, {AXES[dims]}) tensors or ({AXES[dims]}, {channels}) "
            f"arrays, got shape {tuple(tensor.shape)} with the channels first"
        )
    if not tensor.numel():
        raise ValueError(f"{where}: expected at least one pixel, got shape {tuple(tensor.shape)}")
    if tensor.is_floating_point():
        _check_values(tensor, full_scale, where)
    return tensor


def _holds_objects(images: NDArray[Any] | Tensor) -> bool:
    """Whether this is an array of paths or of arrays, not of numbers."""
    return isinstance(images, np.ndarray) and images.dtype.kind in "OUS"


def _pixels_of(image: Picture, channels: int, where: str) -> NDArray[Any]:
    """(H, W) or (H, W, C) of a PIL image, turned upright, in the mode with the model's channels."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode not in DEEP_MODES:
            if image.mode == "La":  # Pillow converts grey with premultiplied alpha to this alone
                image = image.convert("LA")
            image = image.convert(MODES.get(channels, image.mode))
        return np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{where}: expected an intact image, got a broken one: {error}") from error


def _tensor(image: Any, dims: int, where: str) -> Tensor:
    """The image as (C, *S); adds the channel axis where it is missing."""
    if isinstance(image, Tensor):
        if image.layout != torch.strided or image.is_meta:
            kind = "meta" if image.is_meta else image.layout
            raise TypeError(f"{where}: expected a dense tensor with values, got a {kind} one")
        values: Tensor = image.detach()
        return values[None] if values.ndim == dims else values
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{where}: expected {KINDS}, got {type(image).__name__}")
    if image.dtype.kind not in "biufc":
        raise TypeError(f"{where}: expected an array of numbers, got {image.dtype}")
    if image.dtype.kind == "f" and image.dtype.itemsize > 8:  # torch has no long double
        image = image.astype(np.float64)
    image = np.asarray(image)  # a matrix would keep two axes
    array = image[..., None] if image.ndim == dims else image
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch's only order
    if not array.ndim:
        return torch.from_numpy(array.copy())
    # Copied where the caller's array is read-only: torch warns about such memory.
    return torch.from_numpy(np.require(np.moveaxis(array, -1, 0), requirements=["C", "W"]))


def _in_channels(tensor: Tensor, dims: int, channels: int) -> Tensor:
    """Converts a 2-D image between grey, RGB and RGBA; returns anything else unchanged."""
    if dims != 2 or tensor.ndim != 3 or len(tensor) == channels or channels not in MODES:
        return tensor
    if len(tensor) == 1 and channels == 3:
        return tensor.expand(3, -1, -1)
    if len(tensor) == 4 and channels == 3:
        return tensor[:3]
    if len(tensor) in (3, 4) and channels == 1:
        red, green, blue = (
            weight * (plane.int() if plane.dtype == torch.uint8 else plane)
            for weight, plane in zip(LUMA, tensor, strict=False)
        )
        grey: Tensor = red + green + blue
        grey = grey / 65536 if grey.is_floating_point() else (grey + 32768) >> 16
        return grey.to(tensor.dtype)[None]
    return tensor


def _check_values(tensor: Tensor, full_scale: float | None, where: str) -> None:
    """Refuses floats that are not finite, or that cannot be in the unit of the stored images."""
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{where}: expected finite values, got NaN or infinite ones")
    if full_scale is None:
        return
    low, high = (float(value) for value in tensor.aminmax())
    slack = SLACK * full_scale
    beyond = low < -slack or high > full_scale + slack
    # At 8 bits only a black image lies within 0..1, and a normalised one goes below 0.
    normalised = full_scale > 1 and (0 < high <= 1 or (low < 0 and high < slack))
    if beyond or normalised:
        raise ValueError(
            f"{where}: expected floats in 0..{full_scale:g}, the unit of the model's images, got "
            f"{low:.3g}..{high:.3g}; pass uint8, or floats with white at {full_scale:g}"
        )
