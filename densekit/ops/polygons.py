"""COCO polygons: their notations, and the checks that a polygon must pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

FARTHEST = 1e6
"""Largest coordinate, if not four times the image; drawing takes memory in proportion to it."""


def polygons(outline: list[Any]) -> list[Any]:
    """Returns the polygons of an outline, each a list x, y, x, y, ... as in COCO.

    Some tools write one polygon without the enclosing list, or points `[x, y]` instead of numbers.

    Args:
        outline: The list under `segmentation`.
    """
    if outline and all(map(_is_number, outline)):
        return [outline]
    if _is_points(outline):
        return [_flat(outline)]
    return [_flat(polygon) if _is_points(polygon) else polygon for polygon in outline]


def polygon_fault(polygon: Any) -> str:
    """Returns what is wrong with a polygon, "" if nothing is."""
    if not isinstance(polygon, list) or not all(map(_is_number, polygon)):
        return f"expected x, y, x, y, ..., got {polygon!r:.100}"
    if len(polygon) < 6:
        return f"expected a polygon of at least 3 points, got {polygon}"
    if len(polygon) % 2:
        return f"expected pairs of x and y, got {len(polygon)} numbers"
    return ""


def far_coordinate(polygon: list[float], size: tuple[int, int]) -> str:
    """Returns an error if a coordinate is so far away that drawing would exhaust memory, else "".

    Args:
        polygon: x, y, x, y, ...
        size: Height and width of the image.
    """
    limit = min(max(FARTHEST, 4 * max(size)), 4e8)  # the drawing counts fifths in 32 bits
    far = next((value for value in polygon if abs(value) > limit), None)
    return "" if far is None else f"expected coordinates near the image {list(size)}, got {far}"


def polygon_area(polygon: Sequence[float]) -> float:
    """Returns the area that a polygon without crossings encloses.

    Args:
        polygon: x, y, x, y, ...
    """
    x, y = polygon[::2], polygon[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2


def _is_points(outline: Any) -> bool:
    return (
        isinstance(outline, list)
        and len(outline) > 0
        and all(
            isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))
            for point in outline
        )
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _flat(points: list[Any]) -> list[Any]:
    return [value for point in points for value in point]
