"""Miniature data sets of every format that `densekit init` recognises."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

NUMBER = 12
SIDE = 64
VOC = (
    "<annotation><object><name>{name}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>30</xmax>"
    "<ymax>40</ymax></bndbox></object></annotation>"
)
LETTERS = np.array(list("ACGT"))


def picture(path: Path, seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, "jpeg" if path.suffix == ".JPG" else None)
    return path


def mask(path: Path, values: Iterable[int], colours: bool = False) -> Path:
    """Stripes of the values; of colours if wanted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = np.array(list(values), np.uint8)
    stripes = np.repeat(chosen, -(-SIDE // len(chosen)))[:SIDE]
    plane = np.tile(stripes, (SIDE, 1))
    pixels = np.stack([plane, plane // 2, 255 - plane], axis=-1) if colours else plane
    Image.fromarray(pixels).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def coco(root: Path, *, splits: bool = True, outlines: bool = False) -> None:
    for split in ("train", "val") if splits else ("all",):
        for n in range(NUMBER):
            picture(root / f"{split}2017/{n}.jpg", n)
        listed = [
            {"id": n, "file_name": f"{n}.jpg", "height": SIDE, "width": SIDE} for n in range(NUMBER)
        ]
        box = {"bbox": [2, 2, 30, 40], "iscrowd": 0, "area": 1200}
        shape = {"segmentation": [[2, 2, 32, 2, 32, 42, 2, 42]]} if outlines else {}
        objects = [
            {"id": n, "image_id": n, "category_id": 1 + n % 2, **box, **shape}
            for n in range(NUMBER)
        ]
        names = [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]
        content = {"images": listed, "annotations": objects, "categories": names}
        text(root / f"annotations/instances_{split}2017.json", json.dumps(content))


def voc(root: Path) -> None:
    for n in range(NUMBER):
        picture(root / f"pictures/{n}.jpg", n)
        text(root / f"xml/{n}.xml", VOC.format(name="cat" if n % 2 else "dog"))


def voc_lists(root: Path) -> None:
    for n in range(NUMBER):
        picture(root / f"JPEGImages/{n}.jpg", n)
        text(root / f"Annotations/{n}.xml", VOC.format(name="cat" if n % 2 else "dog"))
    text(root / "ImageSets/Main/train.txt", "\n".join(map(str, range(8))))
    text(root / "ImageSets/Main/val.txt", "\n".join(map(str, range(8, NUMBER))))


def voc_roboflow(root: Path) -> None:
    for split, name in (("train", "cat"), ("valid", "dog"), ("test", "cat")):
        for n in range(4):
            picture(root / split / f"{n}.jpg", n)
            text(root / split / f"{n}.xml", VOC.format(name=name))


def yolo(root: Path, *, config: bool = True, row: str = "{n} .5 .5 .4 .4") -> None:
    for split in ("train", "val"):
        for n in range(NUMBER):
            picture(root / f"images/{split}/{n}.jpg", n)
            text(root / f"labels/{split}/{n}.txt", row.format(n=n % 2))
    if config:
        text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [car, person]\n")


def yolo_beside(root: Path) -> None:
    for n in range(NUMBER):
        picture(root / f"{n}.JPG", n)
        text(root / f"{n}.txt", f"{n % 2} .5 .5 .4 .4\n")
    text(root / "classes.txt", "car\nperson\n")


def masks(root: Path, values: Iterable[int] = (0, 1, 3), colours: bool = False) -> None:
    for n in range(NUMBER):
        picture(root / f"images/{n}.jpg", n)
        mask(root / f"masks/{n}.png", values, colours)


def masks_by_suffix(root: Path) -> None:
    for n in range(NUMBER):
        picture(root / f"{n}.jpg", n)
        mask(root / f"{n}_mask.png", (0, 255))


def masks_by_split(root: Path) -> None:
    for split in ("train", "val"):
        for n in range(6):
            picture(root / split / f"image/img_{n:03}.png", n, "L")
            mask(root / split / f"label/{n:03}_gt.png", (0, 1, 2))


def mask_list(root: Path) -> None:
    for split in ("train", "val"):
        for n in range(6):
            picture(root / split / f"{n}.png", n)
            mask(root / f"{split}annot" / f"{n}.png", (0, 1, 11))
        lines = (f"{split}/{n}.png {split}annot/{n}.png" for n in range(6))
        text(root / f"{split}.txt", "\n".join(lines))


def object_masks(root: Path) -> None:
    for n in range(NUMBER):
        picture(root / f"cell{n}/images/cell{n}.png", n)
        for part in range(2):
            mask(root / f"cell{n}/masks/{part}.png", (0, 255))


def volumes(root: Path, *, description: bool = True) -> None:
    import nibabel

    image, label = ("imagesTr", "labelsTr") if description else ("images", "masks")
    for n in range(6):
        for folder in (image, label):
            (root / folder).mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(n).integers(
                0, 2 if folder == label else 99, (20, 24, 28)
            )
            array = values.astype(np.uint8 if folder == label else np.int16)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / folder / f"case_{n}.nii.gz")
    if description:
        training = [
            {"image": f"./{image}/case_{n}.nii.gz", "label": f"./{label}/case_{n}.nii.gz"}
            for n in range(6)
        ]
        labels = {"0": "background", "1": "liver"}
        content = {"modality": {"0": "MRI"}, "labels": labels, "training": training}
        text(root / "dataset.json", json.dumps(content))


def classes(root: Path, *, splits: bool = False) -> None:
    for split in ("train/", "valid/", "test/") if splits else ("",):
        for name in ("apple", "pear"):
            for n in range(8):
                picture(root / f"{split}{name}/{n}.jpg", n + 100 * (name == "pear"))


def people(root: Path) -> None:
    for person in range(20):
        for n in range(3):
            picture(root / f"person{person}/{n}.png", 10 * person + n, "L")


def table(root: Path, header: tuple[str, ...] = ("filename", "species")) -> None:
    for n in range(NUMBER):
        picture(root / f"photos/{n}.jpg", n)
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [header, *((f"{n}.jpg", ("oak", "elm")[n % 2]) for n in range(NUMBER))]
        )


def sequences(root: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (
        f"{('EI', 'N')[n % 2]}, name{n},   {''.join(rng.choice(LETTERS, 30))}" for n in range(30)
    )
    text(root / "splice.data", "\n".join(rows))


def series(root: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("TRAIN", "TEST"):
        rows = (
            f"{','.join(f'{v:.3f}' for v in rng.normal(size=40))}:{n % 2 + 1}" for n in range(10)
        )
        head = (
            "@problemName Gun\n@timeStamps false\n@univariate true\n@classLabel true 1 2\n@data\n"
        )
        text(root / f"Gun_{part}.ts", head + "\n".join(rows) + "\n")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "coco": (coco, "coco"),
    "coco without splits": (lambda root: coco(root, splits=False), "coco"),
    "coco with outlines": (lambda root: coco(root, outlines=True), "coco"),
    "voc": (voc, "voc"),
    "voc with lists": (voc_lists, "voc"),
    "voc of Roboflow": (voc_roboflow, "voc"),
    "yolo": (yolo, "yolo"),
    "yolo without a file": (lambda root: yolo(root, config=False), "yolo"),
    "yolo beside the images": (yolo_beside, "yolo"),
    "masks": (masks, "masks"),
    "binary masks": (lambda root: masks(root, (0, 255)), "masks"),
    "colour masks": (lambda root: masks(root, (0, 90, 200), colours=True), "masks"),
    "masks by suffix": (masks_by_suffix, "masks"),
    "masks by split": (masks_by_split, "masks"),
    "mask list": (mask_list, "mask_list"),
    "object masks": (object_masks, "object_masks"),
    "volumes": (volumes, "volumes"),
    "volumes without description": (lambda root: volumes(root, description=False), "volumes"),
    "classes": (classes, "classes"),
    "classes by split": (lambda root: classes(root, splits=True), "classes"),
    "people": (people, "identities"),
    "table": (table, "table"),
    "sequences": (sequences, "sequences"),
    "series": (series, "series"),
}
"""How each kind is written, and the format as which it is recognised."""
