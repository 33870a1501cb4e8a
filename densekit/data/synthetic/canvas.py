"""The canvas of a scene: places objects and records which object each pixel shows.

N objects so far, H and W the size of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.data.synthetic import drawing

MIN_VISIBLE = 0.42
MIN_VISIBLE_SMALL = 0.7
"""Smallest share of an object that stays visible; a placement that hides more is rejected."""

_SMALL_SHARE = 0.25
_SMALL, _LARGE = (0.07, 0.1), (0.19, 0.42)
"""Diameters as a share of the image's side (geometric mean of both)."""

_CROWD_SHARE = 0.25
"""Share of the objects that are deliberately placed next to or over another one."""


class Canvas:
    """An image, its objects from back to front, and the owner of every pixel.

    Args:
        size: Height and width.
        background: (H, W, 3) RGB, painted over in place.

    Attributes:
        image: (H, W, 3) float32 RGB.
        owner: (H, W) int16 number of the visible object, -1 for none.
        tags: The caller's tag of each object.
        full: Number of pixels of each object without occlusion and image border.
    """

    def __init__(self, size: tuple[int, int], background: NDArray[np.float32]) -> None:
        self.image = np.ascontiguousarray(background)
        self.owner = np.full(size, -1, dtype=np.int16)
        self.tags: list[int] = []
        self.full: list[int] = []
        self._min_visible: list[float] = []
        self._circles: list[tuple[float, float, float]] = []
        self._side = math.sqrt(size[0] * size[1])

    def visible(self) -> NDArray[Any]:
        """(N,) number of visible pixels of each object."""
        shown = self.owner[self.owner >= 0]
        return np.asarray(np.bincount(shown, minlength=len(self.tags)))

    def place(
        self, shape: str, look: drawing.Look, tag: int, rng: np.random.Generator, *, anywhere: bool
    ) -> bool:
        """Tries one random position for an object in front of all others.

        Args:
            shape: One of `drawing.SHAPES`.
            look: Its paint.
            tag: Stored in `tags`.
            rng: Draws size, position, angle and light.
            anywhere: Whether any object may partly hide others; otherwise only those that are
                deliberately crowded may.

        Returns:
            Whether the position was accepted and the object painted.
        """
        small = rng.random() < _SMALL_SHARE
        low, high = _SMALL if small else _LARGE
        diameter = self._side * math.exp(rng.uniform(math.log(low), math.log(high)))
        min_visible = MIN_VISIBLE_SMALL if small else MIN_VISIBLE
        crowd = bool(self._circles) and rng.random() < _CROWD_SHARE
        x, y = self._center(diameter, rng, crowd=crowd)
        angle = rng.uniform(0, 2 * math.pi)
        cover = drawing.coverage(shape, diameter, angle, (x % 1, y % 1))
        middle = cover.shape[0] // 2
        top, left = math.floor(y) - middle, math.floor(x) - middle
        mask = cover >= 0.5
        rows, columns, inside, _ = drawing.clipped(self.owner.shape, mask, top, left)
        under = self.owner[rows, columns][inside]
        if inside.sum() < min_visible * mask.sum() or not self._may_hide(under, crowd or anywhere):
            return False
        paint = drawing.fill(look, cover.shape[0], diameter, angle, rng.uniform(0.75, 1.1))
        drop = max(1, round(diameter * 0.06))
        drawing.paint(self.image, cover * 0.4, np.zeros(3, np.float32), top + drop, left + drop)
        drawing.paint(self.image, cover, paint, top, left)
        self.owner[rows, columns][inside] = len(self.tags)
        self.tags.append(tag)
        self.full.append(int(mask.sum()))
        self._min_visible.append(min_visible)
        self._circles.append((x, y, diameter))
        return True

    def bar(self, rng: np.random.Generator) -> bool:
        """Tries one thin bar in front of everything, as clutter that hides parts of objects."""
        height, width = self.owner.shape
        center = rng.uniform((0, 0), (width, height))
        turn, reach = rng.uniform(0, math.pi), rng.uniform(0.15, 0.4) * self._side
        offset = reach * np.asarray([math.cos(turn), math.sin(turn)])
        ends = np.rint(np.stack([center - offset, center + offset])).astype(int).tolist()
        canvas = np.zeros((height, width), dtype=np.uint8)
        thick = max(2, round(rng.uniform(0.015, 0.035) * self._side))
        cv2.line(canvas, ends[0], ends[1], 255, thick, cv2.LINE_AA)
        mask = canvas >= 128
        if not self._may_hide(self.owner[mask], True):
            return False
        color = drawing.hsv(rng.uniform(0, 360), rng.uniform(0, 0.35), rng.uniform(0.15, 0.95))
        drawing.paint(self.image, canvas.astype(np.float32) / 255, color, 0, 0)
        self.owner[mask] = -1
        return True

    def _center(
        self, diameter: float, rng: np.random.Generator, *, crowd: bool
    ) -> tuple[float, float]:
        height, width = self.owner.shape
        if not crowd:
            x, y = rng.uniform(0.07, 0.93, size=2)  # so that the border cuts some, not half of them
            return float(x * width), float(y * height)
        x, y, other = self._circles[int(rng.integers(len(self._circles)))]
        turn = rng.uniform(0, 2 * math.pi)
        distance = rng.uniform(0.55, 0.9) * (diameter + other) / 2
        return x + distance * math.cos(turn), y + distance * math.sin(turn)

    def _may_hide(self, under: NDArray[Any], overlap: bool) -> bool:
        """Whether every object stays visible enough when the pixels `under` are covered."""
        hidden = np.bincount(under[under >= 0], minlength=len(self.tags))
        if not hidden.any():
            return True
        left = self.visible() - hidden
        return overlap and bool((left >= np.asarray(self._min_visible) * self.full).all())


def extents(owner: NDArray[Any], count: int) -> NDArray[Any]:
    """Tight boxes around the visible part of each object.

    Args:
        owner: (H, W) int16, object numbers or -1.
        count: N; every object must have a visible pixel.

    Returns:
        (N, 4) float64 xyxy, from the outer edge of the first pixel to that of the last.
    """
    boxes = np.zeros((count, 4))
    for number in range(count):
        mask = owner == number
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[number] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def make_look(rng: np.random.Generator, hue: float) -> drawing.Look:
    """A random look around a hue in degrees."""
    turned = hue + rng.normal(0, 32)
    return drawing.Look(
        color=drawing.hsv(turned, rng.uniform(0.55, 1), rng.uniform(0.55, 1)),
        accent=drawing.hsv(rng.uniform(0, 360), rng.uniform(0, 0.9), rng.uniform(0.1, 1)),
        pattern=int(rng.integers(0, 4)),
        pitch=float(rng.uniform(0.15, 0.4)),
    )


def cast(hues: Sequence[float], looks: int, seed: Sequence[int]) -> list[drawing.Look]:
    """The looks of all identities, grouped by class (one hue per class)."""
    return [
        make_look(np.random.default_rng((*seed, number, look)), hue)
        for number, hue in enumerate(hues)
        for look in range(looks)
    ]
