"""Reads a photograph for an exported file and draws what was found; numpy and Pillow alone.

The scripts beside this one run a file of one format each: python onnx_file.py model.onnx photo.jpg
drawn.png
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps


def read(photo: Path, info: dict) -> np.ndarray:
    """The pixels (H, W, C) uint8, turned as the camera was; grey if the model takes one channel."""
    mode = "L" if len(info["mean"]) == 1 else "RGB"
    opened = ImageOps.exif_transpose(Image.open(photo)).convert(mode)
    return np.array(opened).reshape(opened.height, opened.width, -1)


def draw(photo: Path, outputs: dict, info: dict, result: Path) -> list[str]:
    """Draws boxes and masks over the photograph; returns what was found."""
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    lines = []
    for name, values in outputs.items():
        head, _, key = name.partition("/")
        names = info.get("heads", {}).get(head, {}).get("names", [])
        least = thresholds(info, head)
        if key == "boxes":
            found = {part: outputs[f"{head}/{part}"] for part in ("scores", "labels", "valid")}
            if f"{head}/masks" in outputs:
                image = draw_objects(image, values, outputs[f"{head}/masks"], found, least)
            lines += draw_boxes(image, values, found, names, least)
        elif key == "mask":
            image = draw_mask(image, values if values.ndim == 2 else values[0])
            lines.append(f"{head}: a mask of classes {np.unique(values).tolist()}")
        elif key == "probabilities":
            best = int(values.argmax())
            lines.append(f"{head}: {names[best] if names else best} {values[best]:.2f}")
        elif key == "multilabel_probabilities":
            there = [names[i] if names else str(i) for i in np.flatnonzero(values >= least)]
            lines.append(f"{head}: {', '.join(there) or 'nothing'}")
    image.save(result)
    return lines


def thresholds(info: dict, head: str) -> np.ndarray:
    """From which score each class of a head counts: the file says so, one number per class."""
    return np.array(info.get("heads", {}).get(head, {}).get("threshold", [0.5]), np.float32)


def draw_boxes(
    image: Image.Image, boxes: np.ndarray, found: dict, names: list, least: np.ndarray
) -> list[str]:
    """Draws the boxes that score at least the threshold of their class."""
    pen, lines = ImageDraw.Draw(image), []
    for index in confident(found, least):
        label, box = int(found["labels"][index]), [round(float(at), 1) for at in boxes[index]]
        text = f"{names[label] if names else label} {found['scores'][index]:.2f}"
        pen.rectangle(box, outline="red", width=2)
        pen.text((box[0] + 3, box[1] + 2), text, fill="red")
        lines.append(f"{text} {box}")
    return lines


def confident(found: dict, least: np.ndarray) -> np.ndarray:
    """The rows of boxes that count."""
    least = least[found["labels"]] if len(least) > 1 else least
    return np.flatnonzero(found["valid"] & (found["scores"] >= least))


def draw_objects(
    image: Image.Image, boxes: np.ndarray, masks: np.ndarray, found: dict, least: np.ndarray
) -> Image.Image:
    """Blends the pixels of each object over the photograph, each in another colour."""
    pixels = np.array(image, np.float32)
    colours = np.random.default_rng(0).integers(0, 256, (len(boxes), 3))
    for index in confident(found, least):
        inside = pasted(masks[index], boxes[index], pixels.shape[:2])
        pixels[inside] = (pixels[inside] + colours[index]) / 2
    return Image.fromarray(pixels.astype(np.uint8))


def pasted(mask: np.ndarray, box: np.ndarray, size: tuple) -> np.ndarray:
    """The pixels (H, W) of the photograph that belong to an object.

    Its probabilities (m, m) get a frame of zeros, the box grows with it to whole pixels, and what
    is interpolated between the centres of bins counts where it exceeds 0.5.
    """
    grid, plane = np.pad(mask, 1), np.zeros(size, bool)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * len(grid) / len(mask)
    (left, top), (right, bottom) = (centre - half).astype(int), (centre + half).astype(int)
    rows, columns = (
        np.arange(max(first, 0), max(0, min(last + 1, side)))
        for first, last, side in ((top, bottom, size[0]), (left, right, size[1]))
    )
    values = between(grid, rows - top, bottom - top + 1)
    values = between(values.T, columns - left, right - left + 1).T
    plane[rows[:, None], columns] = values > 0.5
    return plane


def between(grid: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """Rows of a grid, interpolated at the centres of pixels of which `length` cover it."""
    at = np.clip((places + 0.5) * len(grid) / length - 0.5, 0, len(grid) - 1)[:, None]
    low = at.astype(int)[:, 0]
    share = at - at.astype(int)
    return grid[low] * (1 - share) + grid[np.minimum(low + 1, len(grid) - 1)] * share


def draw_mask(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Blends the class of each pixel over the photograph."""
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    return Image.blend(image, Image.fromarray(colours[mask]), 0.5)
