"""Many masks of objects as a few maps that number them, for transforms that pick pixels.

Objects that do not overlap share a layer. A transform that gives each pixel the value of another
one, or 255, changes a layer as it would change each mask: two or three maps are changed instead of
hundreds of planes.

N masks, L layers, H and W their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX

Window = tuple[slice, slice]
MOST = IGNORE_INDEX - 1
"""Objects of a layer: its values are 0 where there is none, and `IGNORE_INDEX` where unknown."""


@dataclass(frozen=True)
class Layers:
    """Masks in layers.

    Attributes:
        maps: (L, H, W) uint8.
        layer: (N,) the layer of each mask.
        value: (N,) its value there.
    """

    maps: NDArray[np.uint8]
    layer: NDArray[np.int64]
    value: NDArray[np.int64]

    def planes(self, maps: NDArray[Any]) -> NDArray[np.uint8]:
        """The masks (N, h, w) of changed layers.

        Args:
            maps: (L, h, w), the changed maps.
        """
        out = np.zeros((len(self.layer), *maps.shape[1:]), dtype=np.uint8)
        unknown = [map_ == IGNORE_INDEX for map_ in maps]
        holes = [bool(where.any()) for where in unknown]
        for plane, layer, value in zip(out, self.layer, self.value, strict=True):
            inside = (maps[layer] == value).view(np.uint8)
            window = _window(inside)
            plane[window] = inside[window]
            if holes[layer]:
                plane[unknown[layer]] = IGNORE_INDEX
        return out


def layered(planes: NDArray[Any]) -> Layers:
    """Puts each mask on the first layer where its pixels are free.

    Args:
        planes: (N, H, W) uint8 of 0, 1 and 255. A mask with unknown pixels has a layer of its own.
    """
    maps: list[NDArray[np.uint8]] = []
    counts: list[int] = []
    places: list[tuple[int, int]] = []
    for plane in planes:
        window = _window(plane)
        inside = plane[window]
        alone = bool((inside == IGNORE_INDEX).any())
        layer = len(maps) if alone else _free(maps, counts, window, inside != 0)
        if layer == len(maps):
            maps.append(np.zeros(plane.shape, dtype=np.uint8))
            counts.append(0)
        counts[layer] += 1
        places.append((layer, counts[layer]))
        maps[layer][window][inside == 1] = counts[layer]
        if alone:
            maps[layer][window][inside == IGNORE_INDEX] = IGNORE_INDEX
            counts[layer] = MOST
    rows = np.asarray(places, dtype=np.int64).reshape(-1, 2)
    stacked = np.stack(maps) if maps else np.zeros((0, *planes.shape[1:]), dtype=np.uint8)
    return Layers(stacked, rows[:, 0], rows[:, 1])


def _free(
    maps: list[NDArray[np.uint8]], counts: list[int], window: Window, pixels: NDArray[np.bool_]
) -> int:
    """The first layer with nothing at some pixels of a window; a new one if there is none."""
    for layer, (map_, count) in enumerate(zip(maps, counts, strict=True)):
        if count < MOST and not map_[window][pixels].any():
            return layer
    return len(maps)


def _window(plane: NDArray[Any]) -> Window:
    """The rows and columns around what is not zero."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(plane))
    return slice(y, y + height), slice(x, x + width)
