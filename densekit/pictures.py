"""Pictures for people: boxes and masks over an image, legends, panels beside each other, grids.

Everything takes and returns (H, W, 3) uint8 arrays; PIL draws.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from densekit._fonts import Lettered, lettered

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

BACKGROUND: Colour = (24, 26, 31)
INK: Colour = (238, 240, 244)
VOID: Colour = (255, 255, 255)
LARGEST = 640
"""Pixels of an image's longer side in the pictures of a run: what is larger is made smaller."""
WIDEST = 1920
"""Pixels up to which a low picture is made wider, so that it becomes higher."""
READABLE_SIDE = 480
"""Pixels of an image's longer side below which names would not be legible over it."""

_PALETTE: tuple[Colour, ...] = (
    (255, 82, 82),
    (64, 196, 255),
    (105, 240, 94),
    (255, 202, 40),
    (224, 92, 255),
    (255, 145, 48),
    (29, 233, 202),
    (255, 128, 190),
    (130, 140, 255),
    (205, 230, 60),
    (197, 140, 100),
    (180, 190, 205),
)


def class_colour(label: int) -> Colour:
    """The colour of a class: twelve chosen ones, then hues that never come back close."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    hue = label * 0.618034 % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.3 * (label % 2), 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def palette(background: bool = True) -> Picture:
    """(256, 3) colours of mask values, for files that hold indices.

    Args:
        background: Whether 0 is background, which is black.
    """
    colours = np.array([class_colour(value) for value in range(256)], dtype=np.uint8)
    colours[255] = VOID
    if background:
        colours[0] = 0
    return colours


def to_rgb(image: ArrayLike) -> Picture:
    """Any image as RGB.

    Args:
        image: (H, W) or (H, W, C). uint8 keeps its values; other types are stretched from their
            1st to their 99th percentile. One or two channels become grey (the first), more than
            three are cut to the first three.
    """
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    array = array[..., :1].repeat(3, axis=2) if array.shape[2] < 3 else array[..., :3]
    if array.dtype != np.uint8:
        low, high = np.percentile(array, (1, 99)) if array.size else (0.0, 1.0)
        array = ((array - low) / max(float(high - low), 1e-12)).clip(0, 1) * 255
    return np.ascontiguousarray(array.astype(np.uint8))


def at_most(image: ArrayLike, side: int) -> Picture:
    """`to_rgb`, made smaller where the longer side of the image has more than `side` pixels."""
    picture = to_rgb(image)
    height, width = picture.shape[:2]
    share = side / max(height, width, side)
    return np.array(_resized(picture, round(width * share), round(height * share)))


def as_picture(image: NDArray[Any]) -> Picture:
    """Something to look at of any image: a series as lines, of a volume the middle slice.

    Args:
        image: (*S, C) of one, two or three dimensions.
    """
    if image.ndim == 2:
        return draw_series(image)
    return to_rgb(image if image.ndim == 3 else to_grey(image[..., 0])[len(image) // 2])


def draw_series(values: NDArray[Any]) -> Picture:
    """Draws a series as lines, each channel in a band and a colour of its own.

    Args:
        values: (L, C); each channel is stretched over its band.

    Returns:
        (240, 480, 3).
    """
    width, height, channels = READABLE_SIDE, READABLE_SIDE // 2, values.shape[1]
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw, columns = ImageDraw.Draw(canvas), np.linspace(4, width - 5, len(values))
    for channel, line in enumerate(np.asarray(values, dtype=np.float64).T):
        share = (line - line.min()) / max(float(np.ptp(line)), 1e-12)
        rows = (channel + 0.92 - 0.84 * share) * height / channels
        points = np.stack([columns, rows], axis=1).ravel().tolist()
        draw.line(points, fill=class_colour(channel), width=2)
    return np.array(canvas)


def series_bands(mask: NDArray[Any]) -> NDArray[Any]:
    """The mask of a series as that of its drawing, for `draw_mask`.

    Args:
        mask: (..., L); a value for each position.

    Returns:
        (..., 240, 480).
    """
    places = np.linspace(0, mask.shape[-1] - 1, READABLE_SIDE - 8).round().astype(int)
    places = np.pad(places, 4, mode="edge")  # the margin of `draw_series`
    bands: NDArray[Any] = mask[..., None, places].repeat(READABLE_SIDE // 2, axis=-2)
    return bands


def to_grey(volume: NDArray[Any]) -> Picture:
    """A volume (z, y, x) as uint8, its 0.5th to its 99.5th percentile stretched over the range."""
    low, high = np.percentile(volume, (0.5, 99.5)) if volume.size else (0.0, 1.0)
    scaled = (volume - low) / max(float(high - low), 1e-12)
    return (scaled.clip(0, 1) * 255).astype(np.uint8)


def foreground_of_slices(mask: NDArray[Any], classes: Iterable[int]) -> NDArray[np.int64]:
    """(z,) pixels of some class in each slice.

    Args:
        mask: (z, y, x) classes or multi-label (K, z, y, x).
        classes: Values, or channels, that count.
    """
    if mask.ndim == 4:
        chosen = (mask[list(classes)] == 1).any(axis=0)
    else:
        chosen = np.isin(mask, list(classes))
    counts: NDArray[np.int64] = chosen.sum(axis=(1, 2))
    return counts


def draw_boxes(
    image: ArrayLike,
    boxes: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    scores: ArrayLike | None = None,
) -> Picture:
    """Draws boxes in the colours of their classes, each with its name on a filled tag.

    A small image comes back enlarged by a whole number, so that the names are legible.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        boxes: (N, 4) xyxy pixels of the image.
        labels: (N,) rows of `names`.
        names: Class names.
        scores: (N,) in 0..1, written behind the names; the tags of high ones lie on top.

    Returns:
        (f H, f W, 3), f = 1 for images of `READABLE_SIDE` and more.
    """
    picture = to_rgb(image)
    factor = math.ceil(READABLE_SIDE / max(picture.shape[:2]))
    canvas = _resized(picture, picture.shape[1] * factor, picture.shape[0] * factor)
    corners = _inside(np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * factor, canvas.size)
    kinds = np.asarray(labels).reshape(-1).tolist()
    if len(kinds) != len(corners):
        raise ValueError(f"{len(corners)} boxes, but {len(kinds)} labels")
    said, areas = [names[kind] for kind in kinds], (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    weight = areas  # which tag gives way where two would collide: the larger object's
    if scores is not None:
        certain = np.asarray(scores, dtype=np.float64).reshape(-1)
        said = [f"{text} {score:.2f}" for text, score in zip(said, certain, strict=True)]
        weight = -certain
    draw, longer = ImageDraw.Draw(canvas), max(canvas.size)
    line, texts = max(3, round(longer / 200)), lettered(said, max(14, round(longer / 44)))
    for n in np.argsort(-areas, kind="stable"):  # small boxes over large ones
        _outline(draw, corners[n], class_colour(kinds[n]), line)
    order = np.argsort(weight, kind="stable").tolist()
    places = _places([corners[n] for n in order], [texts[n] for n in order], canvas.size)
    for n, place in reversed(list(zip(order, places, strict=True))):
        _tag(draw, place, texts[n], class_colour(kinds[n]))
    return np.array(canvas)


def draw_mask(
    image: ArrayLike, mask: ArrayLike, classes: Iterable[int], opacity: float = 0.4
) -> Picture:
    """Lays the colours of classes over an image, with their contours; void pixels are darkened.

    A small image comes back enlarged by a whole number.

    Args:
        image: (H, W, C) uint8; see `to_rgb` for others.
        mask: (H, W) classes, 255 void, or multi-label (K, H, W) of 0 and 1.
        classes: Values, or channels of a multi-label mask, that are drawn.
        opacity: Share of the colour within the contours, 0..1.

    Returns:
        (f H, f W, 3), f = 1 for images of `READABLE_SIDE` and more.
    """
    picture, labels = to_rgb(image), np.asarray(mask)
    if labels.shape[-2:] != picture.shape[:2]:
        raise ValueError(f"a mask of {labels.shape[-2:]} for an image of {picture.shape[:2]}")
    factor = math.ceil(READABLE_SIDE / max(picture.shape[:2]))
    enlarged = _resized(picture, picture.shape[1] * factor, picture.shape[0] * factor)
    labels = labels.repeat(factor, axis=-2).repeat(factor, axis=-1)
    canvas, line = np.array(enlarged, dtype=np.float32), max(1, round(max(enlarged.size) / 500))
    canvas[(labels == 255) if labels.ndim == 2 else (labels == 255).all(axis=0)] *= 0.4
    regions = [
        (value, labels == value if labels.ndim == 2 else labels[value] == 1) for value in classes
    ]
    for value, region in regions:
        canvas[region] += opacity * (np.array(class_colour(value), np.float32) - canvas[region])
    for value, region in regions:  # over the colours of every class
        canvas[region & ~_inner(region, line)] = class_colour(value)
    return canvas.round().astype(np.uint8)


def with_legend(picture: Picture, classes: Mapping[int, str]) -> Picture:
    """A picture with the colours and names of classes beneath it.

    Args:
        picture: (H, W, 3).
        classes: Mask value to name, see `draw_mask`.
    """
    box = max(13, min(22, picture.shape[1] // 55))
    step = round(1.7 * box)
    places, x, y = [], box, step // 2
    for value, text in zip(classes, lettered(classes.values(), box), strict=True):
        width = round(1.5 * box + text[1].getlength(text[0]))
        if x > box and x + width > picture.shape[1]:
            x, y = box, y + step
        places.append((x, y, value, text))
        x += width + box
    height = y + step if places else 0
    canvas = Image.new("RGB", (picture.shape[1], len(picture) + height), BACKGROUND)
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    for x, y, value, (name, font) in places:
        top = len(picture) + y
        draw.rectangle((x, top, x + box, top + box), fill=class_colour(value))
        draw.text((x + round(1.5 * box), top + box / 2), name, INK, font, anchor="lm")
    return np.array(canvas)


def side_by_side(images: Sequence[ArrayLike], titles: Sequence[str]) -> Picture:
    """Panels of equal height in a row, each under its title.

    Args:
        images: (H, W, C) each, of any sizes; the tallest gives the height, which low ones are
            brought to as long as they do not become wider than `WIDEST`.
        titles: One a panel.
    """
    pictures = [to_rgb(image) for image in images]
    tallest = max(len(picture) for picture in pictures)
    ratio = max(picture.shape[1] / len(picture) for picture in pictures)
    height = max(tallest, min(READABLE_SIDE // 2, round(WIDEST / ratio)))
    panels = [_resized(p, round(p.shape[1] * height / p.shape[0]), height) for p in pictures]
    size = max(15, height // 26)
    strip, gap = 2 * size, max(6, height // 60)
    width = sum(panel.width for panel in panels) + gap * (len(panels) + 1)
    canvas = Image.new("RGB", (width, strip + height + gap), BACKGROUND)
    draw, left = ImageDraw.Draw(canvas), gap
    for panel, (title, font) in zip(panels, lettered(titles, size), strict=True):
        canvas.paste(panel, (left, strip))
        draw.text((left + panel.width / 2, strip / 2), title, INK, font, anchor="mm")
        left += panel.width + gap
    return np.array(canvas)


def grid(images: Sequence[ArrayLike], columns: int, *, cell_width: int = 480) -> Picture:
    """Images in rows, all of one width, centred in the height of their row.

    Args:
        images: (H, W, C) each, of any sizes, at least one.
        columns: Images a row; fewer where there are fewer images.
        cell_width: Pixels of an image's width in the grid.
    """
    columns, gap = max(1, min(columns, len(images))), max(4, cell_width // 60)
    pictures = [to_rgb(image) for image in images]
    cells = [_resized(p, cell_width, round(len(p) * cell_width / p.shape[1])) for p in pictures]
    rows = [cells[n : n + columns] for n in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    size = (columns * (cell_width + gap) + gap, sum(heights) + gap * (len(rows) + 1))
    canvas, top = Image.new("RGB", size, BACKGROUND), gap
    for row, height in zip(rows, heights, strict=True):
        for n, cell in enumerate(row):
            canvas.paste(cell, (gap + n * (cell_width + gap), top + (height - cell.height) // 2))
        top += height + gap
    return np.array(canvas)


def save(image: ArrayLike, path: str | Path) -> None:
    """Writes a picture in the format of its suffix, making the folder where it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_rgb(image)).save(path)


def _resized(picture: Picture, width: int, height: int) -> Image.Image:
    image = Image.fromarray(picture)
    size = (max(1, width), max(1, height))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _inner(region: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """The region without a rim of some pixels; the border of the picture is no rim."""
    padded = np.pad(region, line, mode="edge")
    height, width = region.shape
    inner = region.copy()
    for y, x in ((0, line), (2 * line, line), (line, 0), (line, 2 * line)):
        inner &= padded[y : y + height, x : x + width]
    return inner


def _inside(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Boxes clipped to the canvas, at least a pixel wide and high, as inclusive pixels."""
    low = boxes[:, :2].clip(0, np.array(size) - 1)
    high = np.maximum((boxes[:, 2:] - 1).clip(0, np.array(size) - 1), low)
    return np.concatenate((low, high), axis=1).round()


def _outline(draw: ImageDraw.ImageDraw, box: NDArray[np.float64], ink: Colour, line: int) -> None:
    x1, y1, x2, y2 = box.tolist()
    # The dark rim keeps the colour visible over a background of the same colour.
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=BACKGROUND, width=line + 2)
    draw.rectangle((x1, y1, x2, y2), outline=ink, width=line)


def _places(
    boxes: Sequence[NDArray[np.float64]],
    texts: Sequence[Lettered],
    size: tuple[int, int],
) -> list[Rectangle]:
    """Where the tags go: on, in or under their boxes, the first place that no earlier tag has."""
    taken: list[Rectangle] = []
    for box, (text, font) in zip(boxes, texts, strict=True):
        width, height = font.getlength(text) + 0.6 * font.size, 1.3 * font.size
        left, top, right, bottom = box.tolist()
        corners = [
            (left, top - height),
            (left, top),
            (left, bottom),
            (left, bottom - height),
            (right - width, top - height),
            (right - width, bottom),
            (right - width, top),
        ]
        fitting = [_fit(x, y, width, height, size) for x, y in corners]
        taken.append(min(fitting, key=lambda place: sum(_shared(place, t) for t in taken)))
    return taken


def _fit(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Rectangle:
    """The rectangle moved into the canvas."""
    x, y = max(0.0, min(x, size[0] - width)), max(0.0, min(y, size[1] - height))
    return x, y, x + width, y + height


def _shared(a: Rectangle, b: Rectangle) -> float:
    """Area that two rectangles share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _tag(draw: ImageDraw.ImageDraw, place: Rectangle, tag: Lettered, ink: Colour) -> None:
    text, font = tag
    draw.rectangle(place, fill=ink)
    red, green, blue = ink
    dark = 0.299 * red + 0.587 * green + 0.114 * blue > 120
    middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
    draw.text(middle, text, BACKGROUND if dark else INK, font, anchor="mm")
