"""What an image file holds: decoded once, described in plain values."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit._extras import need
from densekit.app.doctor.facts import Picture
from densekit.data.reading.bit_depths import DEEP_MODES, UnreadableError, decoding, is_deep_colour
from densekit.data.reading.orientation import orientation_of, sizes_of, stored_size_of
from densekit.data.reading.stacks import ARRAY_SUFFIXES, TIFF_SUFFIXES, read_stack
from densekit.data.reading.truncation import check_whole

SIDE = 512
"""Longer side at which brightness and sharpness are measured."""
TONES = 16
"""Side of the thumbnail that confirms near-duplicates."""


def picture_of(path: Path) -> Picture:
    """Opens and decodes an image file; never raises for a broken one."""
    if not path.is_file():
        return Picture(kind="missing", error="no such file")
    if not path.stat().st_size:
        return Picture(kind="empty", error="0 bytes")
    try:
        return _stack(path) if path.suffix.lower() in ARRAY_SUFFIXES else _picture(path)
    except ValueError as error:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _tiff(path, error)
        return _unreadable(path, error)


def of_array(image: NDArray[Any]) -> Picture:
    """Describes an image (H, W, C) that no file holds, such as a rendered one."""
    height, width, channels = image.shape
    deep = image.dtype != np.uint8
    return Picture(
        format="array",
        mode={1: "L", 3: "RGB", 4: "RGBA"}.get(channels, str(channels)),
        height=height,
        width=width,
        bits=8 * image.dtype.itemsize,
        channels=channels,
        content=digest(image),
        **_seen(_grey(image, deep), deep),
    )


def digest(values: NDArray[Any]) -> str:
    """A digest of an array that is equal for equal values and shapes only."""
    text = f"{values.shape} {values.dtype}".encode()
    return hashlib.blake2b(
        np.ascontiguousarray(values).data, digest_size=16, key=text[:64]
    ).hexdigest()


def _unreadable(path: Path, error: ValueError) -> Picture:
    text = str(error).removeprefix(f"{path}: ")
    cut = any(word in text for word in ("truncated", "cut", "zeros at", "damaged chunk"))
    return Picture(kind="truncated" if cut else "broken", error=text)


def _tiff(path: Path, error: ValueError) -> Picture:
    """A TIFF of more channels than Pillow reads, or a broken one."""
    try:
        return _stack(path)
    except ValueError:
        return _unreadable(path, error)


def _stack(path: Path) -> Picture:
    with decoding(path, "image"):
        return of_array(read_stack(path))


def _picture(path: Path) -> Picture:
    with decoding(path, "image"), Image.open(path) as image:
        orientation, stored = orientation_of(image), stored_size_of(image)
        deep = is_deep_colour(image) or image.mode in DEEP_MODES
        frames, form = int(getattr(image, "n_frames", 1)), image.format or ""
        image.load()
        check_whole(image, path)
        height, width = sizes_of(stored, orientation)[0]
        pixels = np.asarray(image)
        if not pixels.size:
            raise UnreadableError(f"{path}: expected pixels, got none")
        shown = np.asarray(image if image.mode in DEEP_MODES else image.convert("L"))
        return Picture(
            format=form,
            mode=image.mode,
            height=height,
            width=width,
            orientation=orientation,
            frames=frames if form in ("GIF", "TIFF", "PNG", "WEBP") else 1,
            bits=16 if deep else 8,
            channels=len(image.getbands()),
            content=digest(pixels),
            grey=image.mode == "RGB" and _is_grey(pixels),
            clear="A" in image.getbands() and not np.asarray(image.getchannel("A")).any(),
            **_seen(shown, image.mode in DEEP_MODES),
        )


def _is_grey(pixels: NDArray[Any]) -> bool:
    return bool(
        (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    )


def _grey(image: NDArray[Any], deep: bool) -> NDArray[Any]:
    if image.shape[-1] == 3 and not deep:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return np.asarray(image[..., 0])


def _seen(grey: NDArray[Any], deep: bool) -> dict[str, Any]:
    """Brightness, sharpness and perceptual hash of grey values (H, W).

    Values of more than 8 bits have no common range: they are stretched to 0..255 first.
    """
    values = np.nan_to_num(grey.astype(np.float32))
    if deep:
        least, most = float(values.min()), float(values.max())
        values = (values - least) * (255 / (most - least)) if most > least else values * 0
    scale = SIDE / max(values.shape)
    if scale < 1:
        size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
        values = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)
    low, high = np.percentile(values, (5, 99))
    return {
        "low": float(low),
        "high": float(high),
        "spread": float(values.std()) if grey.min() != grey.max() else 0.0,
        "sharpness": float(cv2.Laplacian(values, cv2.CV_32F).var()),
        "look": _look(values),
        "tones": _tones(values),
    }


def _look(values: NDArray[Any]) -> str:
    """The perceptual hash; empty for an image of one tone, whose hash is noise."""
    if values.std() < 1:
        return ""
    imagehash = need("imagehash", "looking for near-duplicates", "doctor")
    return str(imagehash.phash(Image.fromarray(values.round().astype(np.uint8))))


def _tones(values: NDArray[Any]) -> str:
    small = cv2.resize(values, (TONES, TONES), interpolation=cv2.INTER_AREA)
    return bytes(small.round().clip(0, 255).astype(np.uint8).ravel().tolist()).hex()
