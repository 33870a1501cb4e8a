"""A photograph into the inputs of an exported file, and its outputs drawn; numpy and Pillow alone.

The scripts beside this one run a file of one format each: python onnx_file.py model.onnx photo.jpg
drawn.png
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

THRESHOLD = 0.5


def prepared(photo: Path, info: dict, shapes: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns `image` (B, C, H, W) and `size` (B, 2): the photograph B times, padded with zeros."""
    mode, rule = "L" if len(info["mean"]) == 1 else "RGB", info.get("resize") or {}
    opened = ImageOps.exif_transpose(Image.open(photo)).convert(mode)
    sides = target_sides(opened.height, opened.width, rule)
    fixed = "size" not in shapes["dynamic"]
    if fixed and "crop" not in rule:  # what does not fit into the file is reduced further
        scale = min(1.0, *(most / side for most, side in zip(shapes["sides"], sides, strict=True)))
        sides = [max(1, math.floor(side * scale)) for side in sides]
    if rule.get("antialias"):
        opened = opened.resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(opened, np.float32).reshape(opened.height, opened.width, -1)
    pixels = resized(resized(pixels, sides[0], 0), sides[1], 1) * (info["full_scale"] / 255)
    if "crop" in rule:
        pixels = cropped(pixels, rule["crop"])
    height, width, channels = pixels.shape
    frame = np.zeros((*(shapes["sides"] if fixed else (height, width)), channels), np.float32)
    frame[:height, :width] = pixels
    count = shapes["batch"]
    return np.stack([frame.transpose(2, 0, 1)] * count), np.array([[height, width]] * count)


def cropped(pixels: np.ndarray, side: int) -> np.ndarray:
    """The square at the centre."""
    top, left = (round((there - side) / 2) for there in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def target_sides(height: int, width: int, rule: dict) -> list[int]:
    """Height and width after the resize rule of the model, before any crop."""
    if not rule:
        return [height, width]
    most = rule.get("max_size") or math.inf
    scale = min(rule["min_size"] / min(height, width), most / max(height, width))
    more = 0.5 if rule.get("rounded") else 0.0
    return [max(1, math.floor(side * scale + more)) for side in (height, width)]


def resized(pixels: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Interpolates one axis linearly between the centres of pixels, as the model does."""
    there = pixels.shape[axis]
    at = np.clip((np.arange(length) + 0.5) * there / length - 0.5, 0, there - 1)
    low = at.astype(int)
    share = (at - low).astype(np.float32).reshape(-1, 1, 1) if axis == 0 else (at - low)[:, None]
    before, after = pixels.take(low, axis), pixels.take(np.minimum(low + 1, there - 1), axis)
    return (before + (after - before) * share).astype(np.float32)


def draw(photo: Path, outputs: dict, size: np.ndarray, info: dict, result: Path) -> list[str]:
    """Draws boxes and masks of the first image over the photograph; returns what was found."""
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    lines = []
    for name, values in outputs.items():
        head, _, key = name.partition("/")
        names = info.get("heads", {}).get(head, {}).get("names", [])
        if key == "boxes":
            found = {part: outputs[f"{head}/{part}"][0] for part in ("scores", "labels", "valid")}
            lines += draw_boxes(image, values[0], found, size[0], names)
        elif key == "logits" and values.ndim == 4:
            image = draw_mask(image, values[0], size[0])
            lines.append(f"{head}: a mask of {values.shape[1]} classes")
        elif key == "probabilities":
            best = int(values[0].argmax())
            lines.append(f"{head}: {names[best] if names else best} {values[0][best]:.2f}")
    image.save(result)
    return lines


def draw_boxes(image, boxes, found, size, names) -> list[str]:
    """Draws the boxes above the threshold, scaled from the network's frame to the photograph."""
    pen, lines = ImageDraw.Draw(image), []
    scale = np.array([image.width / size[1], image.height / size[0]] * 2)
    for index in np.flatnonzero(found["valid"] & (found["scores"] >= THRESHOLD)):
        label, box = int(found["labels"][index]), (boxes[index] * scale).round(1).tolist()
        text = f"{names[label] if names else label} {found['scores'][index]:.2f}"
        pen.rectangle(box, outline="red", width=2)
        pen.text((box[0] + 3, box[1] + 2), text, fill="red")
        lines.append(f"{text} {box}")
    return lines


def draw_mask(image: Image.Image, logits: np.ndarray, size: np.ndarray) -> Image.Image:
    """Blends the class of each pixel over the photograph."""
    inside = logits[:, : size[0], : size[1]]
    classes = (inside[0] > 0 if len(inside) == 1 else inside.argmax(0)).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    over = Image.fromarray(colours[classes]).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image, over, 0.5)
