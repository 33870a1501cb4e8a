"""The masks of detections and of annotated objects: their overlaps, and their way into rows.

Shape letters: N and M masks, W words of 8 bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from hotcoco import mask as rle_api
from numpy.typing import NDArray
from torch import Tensor

from densekit.types import RunLengths

WORD = 8
HEAD = 3  # height, width, bytes of the text

Chosen = NDArray[np.bool_] | NDArray[np.int64]
Same = TypeVar("Same", bound="ObjectMasks")


@dataclass(frozen=True)
class ObjectMasks:
    """Masks whose overlap is that of their areas.

    Attributes:
        runs: (N,) `RunLengths`.
    """

    runs: NDArray[np.object_]

    def of(self: Same, chosen: Chosen) -> Same:
        """Those of a mask (N,) or of rows."""
        return replace(self, runs=self.runs[chosen])

    def areas(self) -> NDArray[np.float64]:
        """(N,) pixels of each."""
        return np.array([rle_api.area(one) for one in self.runs], dtype=np.float64)

    def iou(self, others: ObjectMasks, crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N, M) IoU with other masks of the same image.

        Args:
            others: M.
            crowd: (M,) for which of them it is the share of the first mask.
        """
        if not len(self.runs) or not len(others.runs):
            return np.zeros((len(self.runs), len(others.runs)))
        found = rle_api.iou(list(self.runs), list(others.runs), crowd.astype(int).tolist())
        return np.asarray(found, dtype=np.float64)


def packed(masks: Sequence[RunLengths]) -> Tensor:
    """(W,) float64 whose bytes are those of masks: height, width, length and text of each."""
    parts: list[bytes] = []
    for one in masks:
        text = one["counts"]
        parts += [struct.pack("3d", *one["size"], len(text)), text, bytes(-len(text) % WORD)]
    words: NDArray[np.float64] = np.frombuffer(b"".join(parts), dtype=np.float64)
    return torch.from_numpy(words.copy())


def unpacked(words: NDArray[np.float64], count: int) -> NDArray[np.object_]:
    """(N,) the masks of `packed`.

    Args:
        words: (W,).
        count: N.

    Raises:
        ValueError: The words are no `count` masks, as in a damaged evaluation.
    """
    masks = np.empty(count, dtype=np.object_)
    content, place = np.ascontiguousarray(words).tobytes(), 0
    numbers = words.tolist()
    for n in range(count):
        height, width, length = _head(numbers[place : place + HEAD])
        start = (place + HEAD) * WORD
        masks[n] = RunLengths(size=[height, width], counts=content[start : start + length])
        check_runs(masks[n], "masks")
        place += HEAD + math.ceil(length / WORD)
    if place != len(words):
        raise ValueError(f"masks: expected {place} words of {count} masks, got {len(words)}")
    return masks


def as_rows(masks: Any, count: int, size: Sequence[int] | None, where: str) -> list[RunLengths]:
    """Masks of an image that fit it.

    Args:
        masks: A list of `RunLengths`.
        count: How many there must be.
        size: Height and width of the image, None if not known.
        where: What they are, for errors.

    Raises:
        ValueError: There are more or fewer, or one is not of the image's size or no run lengths.
    """
    if len(masks) != count:
        raise ValueError(f"{where}: expected {count} masks, one a box, got {len(masks)}")
    for one in masks:
        if size is not None and list(one["size"]) != list(size):
            raise ValueError(f"{where}: expected masks of {list(size)}, got {list(one['size'])}")
        check_runs(one, where)
    return list(masks)


def check_runs(mask: RunLengths, where: str) -> None:
    """Refuses what are no run lengths of its size."""
    try:
        rle_api.area(dict(mask))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where}: expected run lengths, got {error}") from None


def _head(numbers: Sequence[float]) -> tuple[int, int, int]:
    if len(numbers) < HEAD or not all(math.isfinite(one) and one >= 0 for one in numbers):
        raise ValueError(f"masks: expected height, width and length, got {numbers}")
    height, width, length = map(int, numbers)
    return height, width, length
