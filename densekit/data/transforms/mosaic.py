"""Mosaic and mixup of detectors: several images in one, with all their boxes.

C channels, H, W the size of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.transforms.geometry import crop, resize, with_rows
from densekit.data.transforms.partners import (
    Mixing,
    Partners,
    check_mixable,
    check_range,
    check_share,
)
from densekit.types import IGNORE_INDEX, Sample

TRIES = 10
"""Images that are drawn in search of one with an object, at most."""


class Mosaic(Mixing):
    """Four images around a random point (Bochkovskiy et al. 2020, "YOLOv4"; as in YOLOX).

    The images meet at a point in the middle half of a canvas of twice the size. Each is scaled to
    fit `size`, all are zoomed by one random factor, and the middle of the canvas is kept. What no
    image covers is ignored in masks.

    Args:
        size: Height and width of the result.
        zoom: Smallest and largest factor.
        probability: Share of the samples that become a mosaic; the others stay as they are.
        fill: Value where there is no image: one, or one per channel.
        min_visible: Drop boxes of which a smaller share, or nothing, stays in the result.

    Raises:
        ValueError: For invalid values; at the first image with a category or an identity.
    """

    def __init__(
        self,
        size: Sequence[int],
        zoom: Sequence[float] = (0.5, 1.5),
        *,
        probability: float = 1.0,
        fill: float | Sequence[float] = 114.0,
        min_visible: float = 0.1,
    ) -> None:
        if isinstance(size, int) or len(size) != 2 or min(size) < 1:
            raise ValueError(f"Mosaic.size: expected height and width, got {size!r}")
        self.size = (int(size[0]), int(size[1]))
        self.zoom = check_range(zoom, "Mosaic.zoom")
        self.probability = check_share(probability, "Mosaic.probability")
        self.fill = np.asarray(fill)
        self.min_visible = min_visible

    def mix(self, sample: Sample, rng: np.random.Generator, partners: Partners) -> Sample:
        """The sample, top left, with three others."""
        check_mixable(sample, "Mosaic", ())
        if rng.random() >= self.probability:
            return sample
        four = [sample, *(partners.draw(rng) for _ in range(3))]
        offset = [rng.uniform(-0.5, 0.5) for _ in self.size]
        zoom = rng.uniform(*self.zoom)
        corner = [round(side * (0.5 + zoom * o)) for side, o in zip(self.size, offset, strict=True)]
        tiles = [self._tile(one, n, corner, zoom) for n, one in enumerate(four)]
        return assembled([tile for tile in tiles if tile], sample, self.size, self.fill)

    def _tile(
        self, sample: Sample, number: int, corner: Sequence[int], zoom: float
    ) -> tuple[Sample, list[int]] | None:
        """The visible part of an image, and where it begins; None if nothing is visible."""
        scaled = fitted(sample, self.size, zoom)
        before = number < 2, number % 2 == 0  # above the point, left of it
        start = [c - s * b for c, s, b in zip(corner, scaled, before, strict=True)]
        first = [max(0, begin) for begin in start]
        ends = zip(start, scaled, self.size, strict=True)
        last = [min(side, begin + length) for begin, length, side in ends]
        window = [end - begin for begin, end in zip(first, last, strict=True)]
        if min(window) <= 0:
            return None
        inside = [f - s for f, s in zip(first, start, strict=True)]
        tile = crop(resize(sample, scaled), inside, window, min_visible=self.min_visible)
        return tile, first


class BoxMixUp(Mixing):
    """The mean of two images, with the boxes of both (Ge et al. 2021, "YOLOX").

    The other image is scaled to fit this one, then by a random factor, and placed or cropped at
    random. It has an object, if one of ten has; an image without objects stays as it is.

    Args:
        scale: Smallest and largest factor.
        probability: Share of the samples that are mixed.
        own: Weight of the image itself, 0 to 1.
        fill: Value where there is no other image: one, or one per channel.
        min_visible: Drop boxes of the other image of which a smaller share stays.

    Raises:
        ValueError: For invalid values; at the first image with a mask, a category or an identity.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.5, 1.5),
        *,
        probability: float = 1.0,
        own: float = 0.5,
        fill: float | Sequence[float] = 114.0,
        min_visible: float = 0.1,
    ) -> None:
        self.scale = check_range(scale, "BoxMixUp.scale")
        self.probability = check_share(probability, "BoxMixUp.probability")
        self.own = check_share(own, "BoxMixUp.own")
        self.fill = np.asarray(fill)
        self.min_visible = min_visible

    def mix(self, sample: Sample, rng: np.random.Generator, partners: Partners) -> Sample:
        """The sample mixed with another one."""
        check_mixable(sample, "BoxMixUp", ("mask",))
        if rng.random() >= self.probability or not len(sample["boxes"]):
            return sample
        drawn = (partners.draw(rng) for _ in range(TRIES))
        other = next((found for found in drawn if len(found["boxes"])), None)
        if other is None:
            return sample
        size = sample["image"].shape[:2]
        scaled = fitted(other, size, rng.uniform(*self.scale))
        window = [min(pair) for pair in zip(scaled, size, strict=True)]
        inside = [int(rng.integers(a - b + 1)) for a, b in zip(scaled, window, strict=True)]
        start = [int(rng.integers(a - b + 1)) for a, b in zip(size, window, strict=True)]
        tile = crop(resize(other, scaled), inside, window, min_visible=self.min_visible)
        if not len(tile["boxes"]):
            return sample
        out = assembled([(sample, [0, 0]), (tile, start)], sample, size, self.fill)
        second = assembled([(tile, start)], sample, size, self.fill)["image"]
        out["image"] = _mean(sample["image"], second, self.own)
        return out


def assembled(
    tiles: Sequence[tuple[Sample, Sequence[int]]],
    first: Sample,
    size: Sequence[int],
    fill: NDArray[Any],
) -> Sample:
    """Places images on a canvas; later ones cover earlier ones, all boxes are kept.

    Args:
        tiles: Samples, and the row and column where each begins.
        first: The sample whose `meta` and `truth` the result has.
        size: Height and width of the canvas.
        fill: () or (C,) value of the canvas.
    """
    out = first.copy()
    out["image"] = np.empty((*size, first["image"].shape[-1]), dtype=first["image"].dtype)
    out["image"][...] = fill
    if "mask" in first:
        lead = first["mask"].shape[:-2]
        out["mask"] = np.full((*lead, *size), IGNORE_INDEX, dtype=first["mask"].dtype)
    moved = []
    for tile, (top, left) in tiles:
        height, width = tile["image"].shape[:2]
        window = slice(top, top + height), slice(left, left + width)
        out["image"][window] = tile["image"]
        if "mask" in out:
            out["mask"][(..., *window)] = tile["mask"]
        moved.append(_moved(tile, window, size))
    return with_rows(out, moved)


def fitted(sample: Sample, size: Sequence[int], factor: float) -> tuple[int, int]:
    """Height and width of an image scaled to fit a size, then by a factor."""
    height, width = sample["image"].shape[:2]
    scale = factor * min(size[0] / height, size[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _moved(tile: Sample, window: tuple[slice, slice], size: Sequence[int]) -> Sample:
    """The tile with its boxes and the masks of its objects in the frame of the canvas."""
    out = tile.copy()
    if "boxes" in tile:
        offset = np.asarray([window[1].start, window[0].start] * 2, dtype=np.float32)
        out["boxes"] = tile["boxes"] + offset
    if "instance_masks" in tile:
        masks = tile["instance_masks"]
        out["instance_masks"] = np.zeros((len(masks), *size), dtype=masks.dtype)
        out["instance_masks"][(..., *window)] = masks
    return out


def _mean(first: NDArray[Any], second: NDArray[Any], weight: float) -> NDArray[Any]:
    """The weighted mean of two images in their own type, integers rounded."""
    mean = weight * first.astype(np.float32) + (1 - weight) * second.astype(np.float32)
    rounded = np.rint(mean) if first.dtype.kind in "iu" else mean
    return rounded.astype(first.dtype)
