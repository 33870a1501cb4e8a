"""Geometric operations on a sample and all its targets, shared by the transforms.

S the D sizes of the image, N its boxes, C its channels; H, W its size where D is 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Transform
from densekit.data.transforms.nearest import resize_planes
from densekit.ops.padding import window_at
from densekit.types import IGNORE_INDEX, Sample

BOX_ROWS = ("boxes", "labels", "crowd", "instance_masks")
"""Keys with one row per box."""


class Chain:
    """Transforms applied one after the other.

    Args:
        steps: Names to transforms, in order; a name lets the command line change a single one.
    """

    def __init__(self, steps: Mapping[str, Transform]) -> None:
        self.steps = dict(steps)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample after all steps."""
        for step in self.steps.values():
            sample = step(sample, rng)
        return sample


def is_spatial(array: NDArray[Any], size: tuple[int, ...]) -> bool:
    """Whether a plug-in's target has a value per pixel; otherwise it has one row per box."""
    return array.ndim >= len(size) and array.shape[-len(size) :] == tuple(size)


def select_boxes(sample: Sample, rows: NDArray[Any]) -> Sample:
    """Keeps some boxes with their labels, flags and masks.

    Args:
        sample: Any sample.
        rows: (N,) bool, or the numbers of the boxes to keep.

    Returns:
        A new sample; it shares the arrays if all boxes are kept.
    """
    out = sample.copy()
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if "boxes" in sample and np.array_equal(rows, np.arange(len(sample["boxes"]))):
        return out  # without a copy of all masks
    size = sample["image"].shape[:-1]
    for key in BOX_ROWS:
        if key in sample:
            out[key] = sample[key][rows]  # type: ignore[literal-required]
    if "extra" in sample:
        out["extra"] = {
            name: target if is_spatial(target, size) else target[rows]
            for name, target in sample["extra"].items()
        }
    return out


def with_rows(sample: Sample, parts: Sequence[Sample]) -> Sample:
    """The sample with the boxes of all parts and what belongs to each box."""
    out = sample.copy()
    for key in BOX_ROWS:
        if key in sample:
            rows = [part[key] for part in parts]  # type: ignore[literal-required]
            none = [sample[key][:0]] if not rows else []  # type: ignore[literal-required]
            out[key] = np.concatenate([*rows, *none])  # type: ignore[literal-required]
    if "extra" in sample:
        out["extra"] = {
            name: np.concatenate([target[:0], *(part["extra"][name] for part in parts)])
            for name, target in sample["extra"].items()
        }
    return out


def map_pixels(sample: Sample, image: NDArray[Any], change: Any) -> Sample:
    """Sets a new image and applies a function to every mask and map.

    Args:
        sample: The sample before.
        image: (*S', C) its new image.
        change: Maps (..., *S) to (..., *S') without mixing values.
    """
    size = sample["image"].shape[:-1]
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
    """Resizes a sample: bilinear in the image's own dtype, nearest in masks, boxes by exact ratio.

    Args:
        sample: Any sample with D = 2.
        size: New height and width.
    """
    old = sample["image"].shape[:2]
    if old == size:
        return sample
    image = cv2.resize(sample["image"], size[::-1], interpolation=cv2.INTER_LINEAR)
    if image.ndim == 2:  # OpenCV drops a single channel
        image = image[:, :, None]
    out = map_pixels(sample, image, lambda map_: resize_planes(map_, size))
    if "boxes" in sample:
        scale = np.asarray([size[1] / old[1], size[0] / old[0]] * 2, dtype=np.float64)
        boxes = (sample["boxes"] * scale).astype(np.float32)
        out["boxes"] = clip_boxes(boxes, size)
    return out


def crop(
    sample: Sample, start: Sequence[int], size: Sequence[int], *, min_visible: float
) -> Sample:
    """Crops a sample to a window of the image; boxes are clipped to it.

    Args:
        sample: Any sample.
        start: First index along each of the D axes.
        size: The D sizes of the window, which lies inside the image.
        min_visible: Drop boxes of which a smaller share, or nothing, stays in the window.
    """
    inside = window_at(start, size)
    image = np.ascontiguousarray(sample["image"][inside])
    out = map_pixels(sample, image, lambda map_: map_[(..., *inside)])
    if "boxes" not in sample:
        return out
    shifted = sample["boxes"] - np.asarray([*start[::-1]] * 2, dtype=np.float32)
    out["boxes"] = clip_boxes(shifted, tuple(size))
    kept = areas(out["boxes"])
    return select_boxes(out, (kept > 0) & (kept >= min_visible * areas(shifted)))


def pad(
    sample: Sample,
    start: Sequence[int],
    size: Sequence[int],
    *,
    image_fill: NDArray[Any],
    extra_fills: Mapping[str, float],
) -> Sample:
    """Pads a sample to a larger size; masks are ignored in the padding.

    Args:
        sample: Any sample.
        start: Offset of the image along each of the D axes.
        size: The D sizes of the larger image.
        image_fill: () or (C,) value of the image's padding.
        extra_fills: Padding value of each map in `extra`, by name.

    Raises:
        ValueError: If a map has no padding value.
    """
    old = sample["image"].shape[:-1]
    inside = window_at(start, old)

    def padded(map_: NDArray[Any], fill: float = IGNORE_INDEX) -> NDArray[Any]:
        larger = np.full((*map_.shape[: -len(old)], *size), fill, dtype=map_.dtype)
        larger[(..., *inside)] = map_
        return larger

    image = np.empty((*size, sample["image"].shape[-1]), dtype=sample["image"].dtype)
    image[...] = image_fill
    image[inside] = sample["image"]
    out = map_pixels(sample, image, padded)
    for name, target in sample.get("extra", {}).items():
        if is_spatial(target, old):
            if name not in extra_fills:
                raise ValueError(
                    f"extra_fills.{name}: expected the padding value of this target, got none"
                )
            out["extra"][name] = padded(target, extra_fills[name])
    if "boxes" in sample:
        out["boxes"] = sample["boxes"] + np.asarray([*start[::-1]] * 2, dtype=np.float32)
    return out


def clip_boxes(boxes: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Boxes clipped to their image.

    Args:
        boxes: (N, 4) xyxy.
        size: Height and width.
    """
    height, width = size
    limit = np.asarray([width, height, width, height], dtype=boxes.dtype)
    clipped: NDArray[Any] = np.minimum(np.maximum(boxes, 0), limit)
    return clipped


def areas(boxes: NDArray[Any]) -> NDArray[Any]:
    """(N,) areas of (N, 4) xyxy boxes, 0 where a side is not positive."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: NDArray[Any] = sides[:, 0] * sides[:, 1]
    return product
