"""The largest image that is read: a file of a few bytes can claim, and unpack to, any size."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image

VARIABLE = "DENSEKIT_MAX_PIXELS"
"""Environment variable that raises the limit."""
DEFAULT = 400_000_000
COLOURS = 4
"""Channels that a pixel may have; each further one counts as a part of a pixel."""


def max_pixels() -> int:
    """The limit, as the environment sets it.

    Raises:
        ValueError: The variable is no positive whole number.
    """
    text = os.environ.get(VARIABLE, str(DEFAULT))
    if not text.isdecimal() or not 0 < len(text) < 19 or not int(text):
        raise ValueError(f"{VARIABLE}: expected a number of pixels, got {text!r}")
    return int(text)


def limit_pillow() -> None:
    """Makes Pillow refuse images above the limit, and not warn of those below it."""
    Image.MAX_IMAGE_PIXELS = (max_pixels() + 1) // 2  # it warns above this and refuses above twice
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def check_pixels(path: Path, height: int, width: int, channels: int = 1) -> None:
    """Refuses an image above the limit, by its header.

    Raises:
        ValueError: It is larger.
    """
    if height * width * max(channels, COLOURS) > max_pixels() * COLOURS:
        raise ValueError(too_large(path, f"{height} x {width} of {channels} channels"))


def too_large(path: Path, found: str) -> str:
    """The message for an image above the limit."""
    return (
        f"{path}: expected an image of at most {max_pixels():,} pixels, got {found};"
        f" the environment variable {VARIABLE} raises this limit"
    )
