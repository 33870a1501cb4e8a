"""COCO outlines: polygons and run lengths, checked when read and drawn when needed."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.ops.polygons import far_coordinate, polygon_fault, polygons
from densekit.ops.run_lengths import decode
from densekit.types import IGNORE_INDEX, RunLengths

NOTHING = b""
"""The encoding of an object without a usable outline; its whole mask is ignored."""


def encode(segmentation: Any, size: tuple[int, int]) -> tuple[bytes, str]:
    """Checks a COCO `segmentation` and packs it.

    Args:
        segmentation: A list of polygons, or a dict with `size` and `counts` (a list or COCO's
            compressed string).
        size: Height and width of the image.

    Returns:
        The packed outline (`NOTHING` if no part is usable) and its defect, "" if there is none.
        Defective polygons are dropped one by one.

    Raises:
        ValueError: If a coordinate is so far away that drawing it would exhaust the memory.
    """
    if isinstance(segmentation, dict):
        try:
            return pickle.dumps(_checked_runs(segmentation, size)), ""
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return NOTHING, f"broken RLE ({error})"
    if not isinstance(segmentation, list):
        return NOTHING, f"segmentation is a {type(segmentation).__name__}"
    every = polygons(segmentation)
    defects = [polygon_fault(polygon) for polygon in every]
    good = [polygon for polygon, defect in zip(every, defects, strict=True) if not defect]
    for polygon in good:
        if far := far_coordinate(polygon, size):
            raise ValueError(far)
    defect = next(filter(None, defects), "" if good else "no polygon")
    return (pickle.dumps(good) if good else NOTHING), defect


def run_lengths(segment: bytes, size: tuple[int, int]) -> RunLengths:
    """The run lengths of a packed outline, drawn as by pycocotools; without a pixel if `NOTHING`.

    Args:
        segment: The packed outline.
        size: Height and width of the image.
    """
    from pycocotools import mask as coco_mask

    empty = np.asarray([size[0] * size[1]])
    outline = empty if segment == NOTHING else pickle.loads(segment)  # nosec B301 # packed here
    if isinstance(outline, np.ndarray):
        runs = {"size": list(size), "counts": outline.tolist()}
        drawn = coco_mask.frPyObjects(runs, *size)
    else:
        drawn = coco_mask.merge(coco_mask.frPyObjects(outline, *size))
    return RunLengths(size=drawn["size"], counts=drawn["counts"])


def draw(segment: bytes, size: tuple[int, int]) -> NDArray[Any]:
    """Draws a packed outline as a (H, W) uint8 mask: 1 inside, 0 outside, all 255 for `NOTHING`."""
    if segment == NOTHING:
        return np.full(size, IGNORE_INDEX, dtype=np.uint8)
    drawn: NDArray[Any] = decode([run_lengths(segment, size)], size)[0]
    return drawn


def _checked_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> NDArray[Any]:
    """(R,) int32 run lengths down the columns, zeros first, that cover the image exactly."""
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"size: expected {list(size)}, got {segmentation['size']}")
    counts = segmentation["counts"]
    runs = np.asarray(_decompress(counts) if isinstance(counts, str | bytes) else counts)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(
            f"counts: expected runs that cover {size[0]} x {size[1]} pixels, got others"
        )
    return runs.astype(np.int32)


def _decompress(text: str | bytes) -> list[int]:
    """Decodes the run lengths of COCO's compressed string.

    Each character stores six bits, offset by 48: five of the value and one that says whether more
    follow. From the fourth run on, the difference to the run before last is stored.
    """
    codes = text.encode() if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("counts: expected a complete string, got one that is cut off")
    return runs
