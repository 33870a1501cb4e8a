"""Drawing for the rendered scenes: shapes as coverage masks, fills, backgrounds.

All work is done on small patches with NumPy and OpenCV, so that a scene takes a few milliseconds.
H, W the size of the image or of a patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SHAPES = ("disc", "square", "triangle", "star", "ring")
_OVERSAMPLE = 4
_CORNERS = {"square": 4, "triangle": 3, "star": 10}


@dataclass(frozen=True)
class Look:
    """How an object is painted.

    Attributes:
        color: (3,) float32 RGB of the fill, 0..255.
        accent: (3,) float32 RGB of the pattern.
        pattern: 0 plain, 1 stripes, 2 dots, 3 checks.
        pitch: Period of the pattern as a share of the object's diameter.
    """

    color: NDArray[Any]
    accent: NDArray[Any]
    pattern: int
    pitch: float


def hsv(hue: float, saturation: float, value: float) -> NDArray[Any]:
    """(3,) float32 RGB in 0..255 of a hue in degrees, saturation and value in 0..1."""
    k = (np.asarray([5.0, 3.0, 1.0]) + hue / 60) % 6
    share = np.clip(np.minimum(k, 4 - k), 0, 1)
    return (255 * value * (1 - saturation * share)).astype(np.float32)


def coverage(shape: str, diameter: float, angle: float, shift: tuple[float, float]) -> NDArray[Any]:
    """Antialiased mask of a shape.

    Args:
        shape: One of `SHAPES`.
        diameter: Diameter of the circumscribed circle in pixels.
        angle: Rotation in radians.
        shift: Sub-pixel position of the centre within the middle pixel, 0..1 in x and y.

    Returns:
        (S, S) float32 in 0..1, S = ceil(diameter) + 3, with the shape in the centre.
    """
    side = math.ceil(diameter) + 3
    scale = _OVERSAMPLE
    canvas = np.zeros((side * scale, side * scale), dtype=np.uint8)
    radius = diameter * scale / 2
    center = np.asarray([(side // 2 + shift[0]) * scale, (side // 2 + shift[1]) * scale])
    if shape in ("disc", "ring"):
        middle = (round(center[0]), round(center[1]))
        cv2.circle(canvas, middle, round(radius), 255, -1)
        if shape == "ring":
            cv2.circle(canvas, middle, round(radius * 0.5), 0, -1)
    else:
        cv2.fillPoly(
            canvas, [np.rint(_outline(shape, radius, angle) + center).astype(np.int32)], 255
        )
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) / 255


def _outline(shape: str, radius: float, angle: float) -> NDArray[Any]:
    """(P, 2) corners of a polygon around the origin."""
    corners = _CORNERS[shape]
    turns = angle + 2 * math.pi * np.arange(corners) / corners
    reach = np.full(corners, radius)
    if shape == "star":
        reach[1::2] *= 0.42
    return np.stack([reach * np.cos(turns), reach * np.sin(turns)], axis=1)


def fill(look: Look, side: int, diameter: float, angle: float, light: float) -> NDArray[Any]:
    """(S, S, 3) float32 patch of colour, a pattern that rotates with the object, and shading."""
    grid = np.arange(side, dtype=np.float32) - side / 2
    x, y = grid[None, :], grid[:, None]
    wave = 1 / max(look.pitch * diameter, 3.0)
    along = (math.cos(angle) * x + math.sin(angle) * y) * wave
    across = (math.cos(angle) * y - math.sin(angle) * x) * wave
    first, second = (along - np.floor(along)) - 0.5, (across - np.floor(across)) - 0.5
    marked = (
        np.zeros((side, side), dtype=bool),
        first > 0.06,
        first * first + second * second < 0.09,
        (first > 0) ^ (second > 0),
    )[look.pattern]
    shade = light * (1.0 - 0.35 * (x + y) / max(diameter, 1.0))
    inks = np.stack([look.color, look.color + 0.75 * (look.accent - look.color)])
    painted: NDArray[Any] = inks[marked.astype(np.intp)] * shade[:, :, None]
    return painted


def paint(
    image: NDArray[Any], cover: NDArray[Any], color: NDArray[Any], top: int, left: int
) -> tuple[slice, slice, NDArray[Any]]:
    """Blends a patch into an image in place, clipped to the image.

    Args:
        image: (H, W, 3) float32.
        cover: (h, w) float32 opacity in 0..1.
        color: (h, w, 3) or (3,) float32.
        top: Row of the patch's first row, may be negative.
        left: Column of the patch's first column, may be negative.

    Returns:
        The rows and columns of the image that the patch covers, and its opacity there.
    """
    rows, columns, cover, part = clipped(image.shape[:2], cover, top, left)
    if color.ndim == 3:
        color = color[part]
    region = image[rows, columns]
    region += cover[:, :, None] * (color - region)
    return rows, columns, cover


def clipped(
    size: tuple[int, ...], patch: NDArray[Any], top: int, left: int
) -> tuple[slice, slice, NDArray[Any], tuple[slice, slice]]:
    """Rows and columns of the image under a patch, the patch inside the image, and its slices."""
    height, width = size[0], size[1]
    y0, x0 = max(top, 0), max(left, 0)
    y1 = max(min(top + patch.shape[0], height), y0)
    x1 = max(min(left + patch.shape[1], width), x0)
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    return slice(y0, y1), slice(x0, x1), patch[part], part


def background(size: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    """(H, W, 3) float32 texture: soft clouds of muted colours, a faint weave and strokes."""
    height, width = size
    base = hsv(rng.uniform(0, 360), rng.uniform(0.05, 0.45), rng.uniform(0.3, 0.8))
    cells = int(rng.integers(3, 10))
    clouds = rng.normal(0, rng.uniform(10, 32), (cells, cells, 1)) + rng.normal(
        0, 9, (cells, cells, 3)
    )
    image = cv2.resize((clouds + base).astype(np.float32), (width, height), interpolation=2)
    if rng.random() < 0.6:
        turn, wave = rng.uniform(0, math.pi), 2 * math.pi / rng.uniform(4, 24)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        weave = np.sin((math.cos(turn) * x + math.sin(turn) * y) * wave)
        image += rng.uniform(4, 16) * weave[:, :, None].astype(np.float32)
    painted = np.clip(image, 0, 255).astype(np.uint8)  # OpenCV antialiases lines in 8 bits only
    for _ in range(int(rng.integers(2, 9))):
        _stroke(painted, rng)
    textured: NDArray[Any] = painted.astype(np.float32)
    return textured


def _stroke(image: NDArray[Any], rng: np.random.Generator) -> None:
    """Draws a line, an arc or a speck in a muted colour, as clutter."""
    height, width = image.shape[:2]
    color = hsv(rng.uniform(0, 360), rng.uniform(0, 0.4), rng.uniform(0.2, 0.9)).tolist()
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    reach = max(2, int(rng.uniform(0.03, 0.35) * min(height, width)))
    thick = int(rng.integers(1, 4))
    turn = rng.uniform(0, 360)
    if rng.random() < 0.5:
        end = x + round(reach * math.cos(turn)), y + round(reach * math.sin(turn))
        cv2.line(image, (x, y), end, color, thick, cv2.LINE_AA)
    else:
        axes = reach, max(1, reach // 2)
        cv2.ellipse(image, (x, y), axes, turn, 0, 150, color, thick, cv2.LINE_AA)


def grain(image: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """(H, W, 3) uint8 image: the painted scene with a lighting gradient and camera noise."""
    height, width = image.shape[:2]
    slope = 1 + np.linspace(-1, 1, width, dtype=np.float32) * rng.uniform(-0.15, 0.15)
    noise = rng.integers(0, 256, (height, width, 1), dtype=np.uint8).astype(np.float32)
    lit = image * slope[None, :, None] + (noise - 127.5) * rng.uniform(0.02, 0.09)
    noisy: NDArray[Any] = np.clip(lit, 0, 255).astype(np.uint8)
    return noisy
