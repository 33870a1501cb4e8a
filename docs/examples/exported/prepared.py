"""Resizing around a file that was exported without `resize=true`; numpy and Pillow alone.

docs/export.md explains the formula.
"""

import math

import numpy as np
from picture import thresholds
from PIL import Image


def prepared(pixels: np.ndarray, info: dict, shapes: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns `image` (B, C, H, W) and `size` (B, 2): the picture B times, padded with zeros."""
    rule = info.get("resize") or {}
    sides = target_sides(*pixels.shape[:2], rule)
    fixed = "size" not in shapes["dynamic"]
    if fixed and "crop" not in rule:
        sides = fitted(sides, shapes["sides"])
    if rule.get("antialias"):
        pixels = smoothed(pixels, sides)
    pixels = resized(resized(pixels.astype(np.float32), sides[0], 0), sides[1], 1)
    pixels *= info["full_scale"] / 255
    if "crop" in rule:
        pixels = cropped(pixels, rule["crop"])
    height, width, channels = pixels.shape
    frame = np.zeros((*(shapes["sides"] if fixed else (height, width)), channels), np.float32)
    frame[:height, :width] = pixels
    count = shapes["batch"]
    return np.stack([frame.transpose(2, 0, 1)] * count), np.array([[height, width]] * count)


def target_sides(height: int, width: int, rule: dict) -> list[int]:
    """Height and width after the resize rule of the model, before any crop."""
    if not rule:
        return [height, width]
    most = rule.get("max_size") or math.inf
    scale = min(rule["min_size"] / min(height, width), most / max(height, width))
    more = 0.5 if rule.get("rounded") else 0.0
    return [max(1, math.floor(side * scale + more)) for side in (height, width)]


def fitted(sides: list[int], frame: list[int]) -> list[int]:
    """Reduces what does not fit into the file further."""
    axis = 0 if sides[0] * frame[1] >= sides[1] * frame[0] else 1
    if sides[axis] <= frame[axis]:
        return sides
    return [max(1, side * frame[axis] // sides[axis]) for side in sides]


def smoothed(pixels: np.ndarray, sides: list[int]) -> np.ndarray:
    """Reduces with Pillow's smoothing interpolation."""
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    small = picture.resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(*sides, -1)


def resized(pixels: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Interpolates one axis linearly between the centres of pixels, as the model does."""
    there = pixels.shape[axis]
    at = np.clip((np.arange(length) + 0.5) * there / length - 0.5, 0, there - 1)
    low = at.astype(int)
    share = (at - low).astype(np.float32).reshape(-1, 1, 1) if axis == 0 else (at - low)[:, None]
    before, after = pixels.take(low, axis), pixels.take(np.minimum(low + 1, there - 1), axis)
    return (before + (after - before) * share).astype(np.float32)


def cropped(pixels: np.ndarray, side: int) -> np.ndarray:
    """The square at the centre."""
    top, left = (round(max(0, there - side) / 2) for there in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def restored(outputs: dict, size: np.ndarray, pixels: np.ndarray, info: dict) -> dict:
    """The first image's outputs in pixels of the picture: boxes scaled, logits as a mask."""
    height, width = pixels.shape[:2]
    found = {}
    for name, values in outputs.items():
        head, _, key = name.partition("/")
        if key == "boxes":
            scale = np.array([width / size[0][1], height / size[0][0]] * 2, np.float32)
            found[name] = values[0] * scale
        elif key in ("logits", "multilabel_logits"):
            logits = values[0][:, : size[0][0], : size[0][1]]
            logits = resized(resized(logits.transpose(1, 2, 0), height, 0), width, 1)
            least = np.clip(thresholds(info, head), 1e-6, 1 - 1e-6)
            positive = (logits > np.log(least / (1 - least))).astype(np.uint8)
            several = logits.shape[2] > 1
            mask = logits.argmax(2).astype(np.uint8) if several else positive[..., 0]
            found[f"{head}/mask"] = mask if key == "logits" else positive.transpose(2, 0, 1)
        else:
            found[name] = values[0]
    return found
