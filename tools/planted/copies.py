"""A copy of a clean data set that may be harmed, and its annotations in one form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

Row = list[Any]
"""x1, y1, x2, y2 in pixels from 0, and the class name."""


@dataclass
class Copy:
    """A copy of a clean data set.

    Attributes:
        root: Its folder.
        kind: "coco", "voc", "yolo", "masks", "folders", "people", "volumes" or "dicom".
        splits: Split name to the images of the split.
        node: Configuration of its `Source`.
        rng: Chooses what is harmed.
        resize: Its resize rule.
    """

    root: Path
    kind: str
    splits: dict[str, list[Path]]
    node: dict[str, Any]
    rng: np.random.Generator
    resize: dict[str, Any] = field(default_factory=dict)

    def image(self, split: str = "train") -> Path:
        """An image drawn at random."""
        return self.splits[split][int(self.rng.integers(len(self.splits[split])))]

    def two(self) -> tuple[Path, Path]:
        """Two different training images."""
        first, other = self.rng.choice(len(self.splits["train"]), 2, replace=False)
        return self.splits["train"][int(first)], self.splits["train"][int(other)]

    def annotated(self) -> Path:
        """A training image with at least two boxes of some size."""

        def large(row: Row) -> bool:
            return bool(row[2] - row[0] > 12 and row[3] - row[1] > 12)

        images = [i for i in self.splits["train"] if sum(map(large, self.rows(i))) > 1]
        return images[int(self.rng.integers(len(images)))]

    def mask(self, image: Path) -> Path:
        """The mask of an image."""
        folder = {"masks": "masks", "volumes": "labelsTr", "dicom": "mask"}[self.kind]
        if self.kind == "dicom":
            return image.parent / folder
        suffix = ".nii.gz" if self.kind == "volumes" else ".png"
        return (
            self.root / folder / f"{image.name.removesuffix(suffix).removesuffix('.jpg')}{suffix}"
        )

    def json(self, split: str = "train") -> dict[str, Any]:
        """The COCO file of a split."""
        content: dict[str, Any] = json.loads((self.root / f"{split}.json").read_text())
        return content

    def dump(self, content: dict[str, Any], split: str = "train") -> None:
        """Writes the COCO file of a split."""
        (self.root / f"{split}.json").write_text(json.dumps(content))

    def xml(self, image: Path) -> Path:
        """The VOC file of an image."""
        return self.root / "Annotations" / f"{image.stem}.xml"

    def text(self, image: Path) -> Path:
        """The YOLO file of an image."""
        return Path(str(image.with_suffix(".txt")).replace("/images/", "/labels/"))

    def names(self) -> list[str]:
        """Class names of a YOLO copy."""
        return (self.root / "classes.txt").read_text().split("\n")

    def rows(self, image: Path) -> list[Row]:
        """The boxes of an image."""
        return {"coco": _coco_rows, "voc": _voc_rows, "yolo": _yolo_rows}[self.kind](self, image)

    def change(self, image: Path, change: Callable[[list[Row]], list[Row]]) -> None:
        """Replaces the boxes of an image."""
        rows = change(self.rows(image))
        {"coco": _write_coco, "voc": _write_voc, "yolo": _write_yolo}[self.kind](self, image, rows)

    def change_all(self, change: Callable[[Row], Row]) -> None:
        """Replaces every training box."""
        if self.kind == "coco":
            content = self.json()
            for record in content["annotations"]:
                x, y, w, h = record["bbox"]
                x1, y1, x2, y2, _ = change([x, y, x + w, y + h, ""])
                record["bbox"] = [x1, y1, x2 - x1, y2 - y1]
                record.pop("segmentation", None)
            self.dump(content)
            return
        for image in self.splits["train"]:
            self.change(image, lambda rows: [change(row) for row in rows])


def _coco_rows(copy: Copy, image: Path) -> list[Row]:
    content, name = copy.json(), image.name
    image_id = next(r["id"] for r in content["images"] if Path(r["file_name"]).name == name)
    names = {category["id"]: category["name"] for category in content["categories"]}
    return [
        [x, y, x + w, y + h, names[a["category_id"]]]
        for a in content["annotations"]
        if a["image_id"] == image_id
        for x, y, w, h in [a["bbox"]]
    ]


def _write_coco(copy: Copy, image: Path, rows: list[Row]) -> None:
    content, name = copy.json(), image.name
    image_id = next(r["id"] for r in content["images"] if Path(r["file_name"]).name == name)
    ids = {category["name"]: category["id"] for category in content["categories"]}
    kept = [a for a in content["annotations"] if a["image_id"] != image_id]
    first = 1 + max(a["id"] for a in content["annotations"])
    content["annotations"] = kept + [
        {
            "id": first + place,
            "image_id": image_id,
            "category_id": ids[name],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
        }
        for place, (x1, y1, x2, y2, name) in enumerate(rows)
    ]
    copy.dump(content)


CORNERS = (("xmin", 1), ("ymin", 1), ("xmax", 0), ("ymax", 0))


def _voc_rows(copy: Copy, image: Path) -> list[Row]:
    tree = ElementTree.parse(copy.xml(image))
    return [
        [
            *(float(o.findtext(f"bndbox/{k}") or 0) - shift for k, shift in CORNERS),
            o.findtext("name"),
        ]
        for o in tree.iter("object")
    ]


def _write_voc(copy: Copy, image: Path, rows: list[Row]) -> None:
    tree = ElementTree.parse(copy.xml(image))
    root = tree.getroot()
    for element in list(root.iter("object")):
        root.remove(element)
    for row in rows:
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = row[4]
        box = ElementTree.SubElement(element, "bndbox")
        for (key, shift), value in zip(CORNERS, row, strict=False):
            ElementTree.SubElement(box, key).text = str(value + shift)
    tree.write(copy.xml(image))


def _yolo_rows(copy: Copy, image: Path) -> list[Row]:
    with Image.open(image) as picture:
        width, height = picture.size
    found = []
    for line in copy.text(image).read_text().splitlines():
        label, x, y, w, h = map(float, line.split())
        box = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        found.append([*box, copy.names()[int(label)]])
    return found


def _write_yolo(copy: Copy, image: Path, rows: list[Row]) -> None:
    with Image.open(image) as picture:
        width, height = picture.size
    names = copy.names()
    lines = [
        f"{names.index(name)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height}"
        f" {(x2 - x1) / width} {(y2 - y1) / height}"
        for x1, y1, x2, y2, name in rows
    ]
    copy.text(image).write_text("\n".join(lines))
