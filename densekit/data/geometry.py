"""What every geometric transform does to a sample's targets, once.

H, W the size of the image, N its boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Transform
from densekit.data.sanitise import clip_boxes
from densekit.types import Sample

BOX_ROWS = ("boxes", "labels", "crowd", "instance_masks")
"""Keys with one row a box."""


class Chain:
    """Transforms one after the other.

    Args:
        steps: Any names to transforms, in order; names let a command line change one of them.
    """

    def __init__(self, steps: Mapping[str, Transform]) -> None:
        self.steps = dict(steps)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample after all steps."""
        for step in self.steps.values():
            sample = step(sample, rng)
        return sample


def is_spatial(array: NDArray[Any], size: tuple[int, ...]) -> bool:
    """Whether a plug-in's target is a map of the image; otherwise it has one row a box."""
    return array.ndim >= 2 and array.shape[-2:] == tuple(size)


def select_boxes(sample: Sample, rows: NDArray[Any]) -> Sample:
    """Keeps some boxes with everything that belongs to them.

    Args:
        sample: Any sample.
        rows: (N,) bool, or the numbers of the boxes to keep.
    """
    out = sample.copy()
    size = sample["image"].shape[:2]
    for key in BOX_ROWS:
        if key in sample:
            out[key] = sample[key][rows]  # type: ignore[literal-required]
    if "extra" in sample:
        out["extra"] = {
            name: target if is_spatial(target, size) else target[rows]
            for name, target in sample["extra"].items()
        }
    return out


def map_pixels(sample: Sample, image: NDArray[Any], change: Any) -> Sample:
    """A new image, and every mask and map changed by the same function.

    Args:
        sample: The sample before.
        image: (H', W', C) its new image.
        change: Maps (..., H, W) to (..., H', W') without mixing values.
    """
    size = sample["image"].shape[:2]
    out = sample.copy()
    out["image"] = image
    if "instance_masks" in sample:
        out["instance_masks"] = change(sample["instance_masks"])
    if "mask" in sample:
        out["mask"] = change(sample["mask"])
    if "extra" in sample:
        out["extra"] = {
            name: change(target) if is_spatial(target, size) else target
            for name, target in sample["extra"].items()
        }
    return out


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Bilinear in the image's own dtype, nearest neighbour in masks; boxes by the exact ratio.

    Args:
        sample: Any sample.
        size: New height and width.
    """
    old = sample["image"].shape[:2]
    if old == size:
        return sample
    image = cv2.resize(sample["image"], size[::-1], interpolation=cv2.INTER_LINEAR)
    if image.ndim == 2:  # OpenCV drops a single channel
        image = image[:, :, None]
    rows, columns = (_nearest(new, before) for new, before in zip(size, old, strict=True))
    out = map_pixels(sample, image, lambda map_: map_[..., rows[:, None], columns])
    if "boxes" in sample:
        scale = np.asarray([size[1] / old[1], size[0] / old[0]] * 2, dtype=np.float64)
        boxes = (sample["boxes"] * scale).astype(np.float32)
        out["boxes"] = clip_boxes(boxes, size)
    return out


def crop(
    sample: Sample, top: int, left: int, size: tuple[int, int], *, min_visible: float
) -> Sample:
    """A window of the image; boxes are cut at its border.

    Args:
        sample: Any sample.
        top: First row.
        left: First column.
        size: Height and width of the window, inside the image.
        min_visible: Boxes of which a smaller share stays are dropped, and those of which nothing
            stays.
    """
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    image = np.ascontiguousarray(sample["image"][rows, columns])
    out = map_pixels(sample, image, lambda map_: map_[..., rows, columns])
    if "boxes" not in sample:
        return out
    shifted = sample["boxes"] - np.asarray([left, top, left, top], dtype=np.float32)
    out["boxes"] = clip_boxes(shifted, size)
    kept = areas(out["boxes"])
    return select_boxes(out, (kept > 0) & (kept >= min_visible * areas(shifted)))


def areas(boxes: NDArray[Any]) -> NDArray[Any]:
    """(N,) areas of (N, 4) boxes, 0 where a side is."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: NDArray[Any] = sides[:, 0] * sides[:, 1]
    return product


def _nearest(new: int, old: int) -> NDArray[Any]:
    """(new,) source index of every target pixel, by the pixels' centres."""
    index: NDArray[Any] = np.floor((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
    index[index >= old] = old - 1  # rounding of the ratio
    return index
