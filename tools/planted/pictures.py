"""Defects of image files, of copies and of names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from planted.copies import Copy

ANY = ("coco", "voc", "yolo", "masks", "folders", "people")
Plant = Callable[[Copy], None]


def _bytes(change: Callable[[bytes], bytes]) -> Plant:
    def plant(copy: Copy) -> None:
        image = copy.image()
        image.write_bytes(change(image.read_bytes()))

    return plant


def _pixels(
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], *, coloured: bool = False
) -> Plant:
    def plant(copy: Copy) -> None:
        image = copy.image()
        array, form = _opened(image)
        while coloured and (array.ndim < 3 or (array[..., 0] == array[..., 1]).all()):
            image = copy.image()
            array, form = _opened(image)
        Image.fromarray(change(array)).save(image, format=form, quality=95)

    return plant


def _opened(image: Path) -> tuple[NDArray[np.uint8], str | None]:
    with Image.open(image) as picture:
        return np.asarray(picture), picture.format


def _rotated(copy: Copy) -> None:
    image = copy.image()
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(image) as picture:
        picture.load()
        picture.save(image, format=picture.format, exif=exif)


def _other_format(copy: Copy) -> None:
    image = copy.image()
    with Image.open(image) as picture:
        form = "PNG" if picture.format == "JPEG" else "JPEG"
        picture.load()
        picture.convert("RGB").save(image, format=form)


def _mode(mode: str) -> Plant:
    def plant(copy: Copy) -> None:
        image = copy.image()
        with Image.open(image) as picture:
            form = "PNG" if picture.format == "PNG" else "JPEG"
            other = mode if picture.mode != mode else "RGB"
            picture.load()
            picture.convert(other).save(image, format=form)

    return plant


def _copied(copy: Copy) -> None:
    first, other = copy.two()
    shutil.copy(first, other)


def _copied_across(copy: Copy) -> None:
    shutil.copy(copy.image(), copy.splits[_second(copy)][0])


def _second(copy: Copy) -> str:
    return next(split for split in copy.splits if split != "train")


def _reencoded(first: Path, other: Path) -> None:
    with Image.open(first) as picture:
        form = picture.format
        array = np.asarray(picture).astype(np.int64)
    changed = (array * 0.96 + 4).clip(0, 255).astype(np.uint8)
    Image.fromarray(changed).save(other, format=form, quality=88)


def _near(copy: Copy) -> None:
    _reencoded(*copy.two())


def _near_across(copy: Copy) -> None:
    _reencoded(copy.image(), copy.splits[_second(copy)][0])


def _unused(copy: Copy) -> None:
    image = copy.image()
    _reencoded(image, image.with_name(f"unused{image.suffix}"))


def _frames(copy: Copy) -> None:
    image = copy.image()
    with Image.open(image) as picture:
        first = picture.convert("P")
        other = Image.fromarray(255 - np.asarray(picture.convert("L"))).convert("P")
        first.save(image, format="GIF", save_all=True, append_images=[other])


def _size(width: int, height: int) -> Plant:
    def plant(copy: Copy) -> None:
        image = copy.image()
        with Image.open(image) as picture:
            form = picture.format
            resized = picture.resize((width, height))
        resized.save(image, format=form)

    return plant


def _deep(copy: Copy) -> None:
    image = copy.image()
    with Image.open(image) as picture:
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 200
    Image.fromarray(grey).save(image, format="PNG")


def _clear(copy: Copy) -> None:
    image = copy.image()
    with Image.open(image) as picture:
        rgba = picture.convert("RGBA")
    rgba.putalpha(0)
    rgba.save(image, format="PNG")


def _renamed(name: str) -> Plant:
    """A copy of an image under another name, in a folder per class or identity."""

    def plant(copy: Copy) -> None:
        image = copy.image()
        _reencoded(image, image.with_name(name.format(stem=image.stem, suffix=image.suffix)))

    return plant


def _case(copy: Copy) -> None:
    image = copy.image()
    target = image.with_name(f"name_a{image.suffix}")
    _reencoded(image, target)
    _reencoded(image, image.with_name(f"Name_a{image.suffix}"))


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(pixels[..., 1:2], 3, axis=2)


def _level(scale: float, offset: float) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda pixels: (pixels * scale + offset).clip(0, 255).astype(np.uint8)


def _blur(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 40), np.uint8)


COLOUR = ("bccd", "voc100", "coco_small", "pennfudan", "rendered", "camvid", "categories")
PLANTS: dict[str, tuple[tuple[str, ...], Plant]] = {
    "missing-image": (("coco", "masks"), lambda copy: copy.image().unlink()),
    "empty-file": (ANY, _bytes(lambda _: b"")),
    "broken-image": (ANY, _bytes(lambda content: bytes(255 - b for b in content[:400]))),
    "truncated-image": (ANY, _bytes(lambda content: content[: len(content) // 2])),
    "wrong-suffix": (ANY, _other_format),
    "mixed-formats": (ANY, _other_format),
    "mixed-modes": (ANY, _mode("L")),
    "print-colours": (("coco", "voc"), _mode("CMYK")),
    "grey-in-colour": (COLOUR, _pixels(_grey, coloured=True)),
    "exif-orientation": (ANY, _rotated),
    "duplicate-image": (ANY, _copied),
    "duplicate-across-splits": (ANY, _copied_across),
    "near-duplicate": (ANY, _near),
    "near-duplicate-across-splits": (ANY, _near_across),
    "unused-image": (("coco", "voc", "masks"), _unused),
    "several-frames": (ANY, _frames),
    "tiny-image": (("folders", "people"), _size(5, 7)),
    "long-image": (("folders", "people"), _size(900, 60)),
    "size-outlier": (("folders", "people"), _size(1600, 1500)),
    "huge-image": (("folders",), _size(7500, 7000)),
    "undeclared-depth": (("coco", "voc", "folders"), _deep),
    "mixed-depths": (("coco", "voc", "folders"), _deep),
    "transparent-image": (("coco", "voc", "folders"), _clear),
    "constant-image": (ANY, _pixels(lambda pixels: np.full_like(pixels, 90))),
    "dark-image": (ANY, _pixels(_level(0.05, 0))),
    "bright-image": (ANY, _pixels(_level(0.03, 247))),
    "low-contrast": (ANY, _pixels(_level(0.02, 120))),
    "blurred-image": (ANY, _pixels(_blur)),
    "ambiguous-name": (("folders", "people"), _renamed("{stem}.bmp")),
    "non-ascii-name": (("folders", "people"), _renamed("é{stem}{suffix}")),
    "unportable-name": (("folders", "people"), _renamed("a:{stem}{suffix}")),
    "colliding-names": (("folders", "people"), _case),
}
"""Check to the kinds (or names) of data sets that its defect is planted in, and the planting."""
