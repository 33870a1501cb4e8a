"""Opens a sample of the images of a data set: channels, depth, sizes, broken files.

H, W the size of an image, C its channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit.data.fingerprint import spread
from densekit.data.reading.bit_depths import DEEP_MODES, is_deep_colour
from densekit.data.reading.images import ImageReader
from densekit.data.reading.progress import tracked
from densekit.data.reading.stacks import ARRAY_SUFFIXES, read_stack

SAMPLED = 200
"""Images that are opened."""
_GREY = ("1", "L", "LA", "F", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Look:
    """A sample of images.

    Attributes:
        total: Number of images.
        sizes: (N, 2) height and width of those that could be opened.
        channels: 1 if all are grey, else 3; of arrays their own number.
        deep: Whether one has more than 8 bits per channel.
        modes: How many are of each of Pillow's modes.
        mean: (C,) of the pixels; of deep images only.
        std: (C,) likewise.
        broken: What is wrong with those that could not be read.
    """

    total: int
    sizes: NDArray[Any]
    channels: int
    deep: bool
    modes: Counter[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    broken: tuple[str, ...]

    @property
    def needs_scale(self) -> bool:
        """Whether a mean and a standard deviation have to be given."""
        return self.deep or self.channels not in (1, 3)


def look_at(paths: Sequence[Path]) -> Look:
    """Opens a sample of image files and decodes them."""
    sample = [paths[index] for index in spread(len(paths), SAMPLED)] if paths else []
    headers = {path: header for path in sample if (header := _header(path)) is not None}
    modes = Counter(mode for mode, _, _ in headers.values())
    own = {channels for _, channels, _ in headers.values()}
    channels = max(own, default=3)
    deep = any(is_deep for _, _, is_deep in headers.values())
    sizes, values, broken = [], [], []
    read = ImageReader(channels, "float32" if deep or channels > 4 else "uint8")
    for path in tracked(sample, "opening images"):
        try:
            image = read(path)
        except ValueError as error:
            broken.append(str(error))
            continue
        sizes.append(image.shape[:2])
        if deep or channels not in (1, 3):
            values.append(image.reshape(-1, image.shape[-1])[:: max(1, image.size // 50_000)])
    every = np.concatenate(values) if values else np.zeros((0, channels))
    return Look(
        total=len(paths),
        sizes=np.asarray(sizes, dtype=np.int64).reshape(-1, 2),
        channels=channels,
        deep=deep,
        modes=modes,
        mean=tuple(float(f"{v:.5g}") for v in every.mean(0)) if len(every) else (),
        std=tuple(float(f"{max(v, 1e-6):.5g}") for v in every.std(0)) if len(every) else (),
        broken=tuple(broken),
    )


def _header(path: Path) -> tuple[str, int, bool] | None:
    """Mode, channels and whether more than 8 bits are stored; None if the file is broken."""
    try:
        if path.suffix.lower() in ARRAY_SUFFIXES:
            stack = read_stack(path)
            return str(stack.dtype), stack.shape[2], stack.dtype != np.uint8
        with Image.open(path) as image:
            deep = image.mode in DEEP_MODES or is_deep_colour(image)
            return image.mode, 1 if image.mode in _GREY else 3, deep
    except Exception:  # damaged headers raise anything; decoding says what is wrong
        return None
