"""Data sets of a handful of small pictures in the folders that the recipes read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from densekit.app.downloads import prepare
from densekit.data.segmentation.voc import VOC_NAMES

SIZE = (80, 64)
XML = """<annotation><filename>{name}.jpg</filename>
<size><width>80</width><height>64</height><depth>3</depth></size>
<object><name>{kind}</name><difficult>0</difficult>
<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object>
</annotation>"""


def picture(file: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def mask(file: Path, value: int, size: tuple[int, int] = SIZE) -> None:
    """The left half is background, the right half the value."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[:, size[0] // 2 :] = value
    Image.fromarray(pixels).save(file)


def text(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def coco(root: Path) -> None:
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    for split in ("train2017", "val2017"):
        images, objects = [], []
        for number in range(1, 5):
            picture(root / "coco" / split / f"{number}.jpg", number)
            images.append({"id": number, "file_name": f"{number}.jpg", "width": 80, "height": 64})
            box = {"bbox": [9, 9, 50, 40], "area": 2000, "iscrowd": 0}
            objects.append({"id": number, "image_id": number, "category_id": 1 + number % 2 * 2})
            objects[-1] |= box
        content = {"images": images, "annotations": objects, "categories": categories}
        file = root / "coco" / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))


def voc(root: Path) -> None:
    """VOC 2007 and 2012 with boxes of every class, 2012 with masks and SBD's more of them."""
    for year, splits in {"2007": ("trainval", "test"), "2012": ("trainval",)}.items():
        folder = root / "VOCdevkit" / f"VOC{year}"
        names = [f"{number:02}" for number in range(20)]
        for name, kind in zip(names, VOC_NAMES[1:], strict=True):
            picture(folder / "JPEGImages" / f"{name}.jpg", int(name))
            text(folder / "Annotations" / f"{name}.xml", [XML.format(name=name, kind=kind)])
        for split in splits:
            text(folder / "ImageSets" / "Main" / f"{split}.txt", names)
    for number, name in enumerate(names):
        mask(folder / "SegmentationClass" / f"{name}.png", number + 1)
        mask(folder / "SegmentationClassAug" / f"{name}.png", number + 1)
    for split, listed in {"train_aug": names[2:], "val": names[:2]}.items():
        text(folder / "ImageSets" / "Segmentation" / f"{split}.txt", listed)


def vessels(root: Path) -> None:
    """DRIVE, STARE and CHASE_DB1, large enough for their crops."""
    size = (300, 280)
    for split, number in (("training", 21), ("test", 1)):
        folder = root / "DRIVE" / split
        picture(folder / "images" / f"{number:02}_{split}.tif", number, size)
        mask(folder / "1st_manual" / f"{number:02}_manual1.gif", 255, size)
    for number in range(12):
        picture(root / "STARE" / "images" / f"im{number:04}.ppm", number, size)
        mask(root / "STARE" / "labels" / f"im{number:04}.ah.ppm", 255, size)
    for number in range(22):
        name = f"Image_{number:02}L"
        picture(root / "CHASE_DB1" / f"{name}.jpg", number, size)
        mask(root / "CHASE_DB1" / f"{name}_1stHO.png", 255, size)
    for lists in (prepare.drive, prepare.stare, prepare.chase_db1):
        lists(root)


def imagenet(root: Path) -> None:
    for split in ("train", "val"):
        for number, name in enumerate(("n01440764", "n01443537")):
            for image in range(4):
                file = f"{split}{image}.jpg"
                picture(root / "imagenet" / split / name / file, 10 * number + image, (260, 240))


def faces(root: Path) -> None:
    """MS1MV3 with four people, and pairs of two others."""
    size = (112, 112)
    for person in range(4):
        for image in range(2):
            file = root / "ms1mv3" / "train" / f"p{person}" / f"{image}.jpg"
            picture(file, 10 * person + image, size)
    for name in ("lfw", "cfp_fp", "agedb_30"):
        folder = root / "ms1mv3" / name
        for seed, file in enumerate(("a/1", "a/2", "b/1", "b/2")):
            picture(folder / f"{file}.jpg", seed, size)
        pairs = [("a/1", "a/2", 1), ("b/1", "b/2", 1), ("a/1", "b/1", 0), ("a/2", "b/2", 0)] * 2
        rows = [f"{a}.jpg,{b}.jpg,{same},{n // 4}" for n, (a, b, same) in enumerate(pairs)]
        text(folder / "pairs.csv", ["first,second,same,fold", *rows])


def miniature(root: Path) -> Path:
    """Writes all of them below a folder and returns it."""
    for write in (coco, voc, vessels, imagenet, faces):
        write(root)
    return root
