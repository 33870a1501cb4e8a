"""The line on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densekit.data import CocoDetection, ImageFolder, SemanticScenes, Subset
from densekit.data.summary import summary


def coco(folder: Path) -> CocoDetection:
    images = [{"id": n, "file_name": f"{n}.png", "width": 20, "height": 20} for n in (1, 2)]
    boxes: list[tuple[int, int, list[int]]] = [
        *((1, 1, [0, 0, 5, 5]), (1, 2, [1, 1, 5, 5]), (2, 2, [0, 0, 9, 9]), (2, 1, [50, 50, 4, 4])),
    ]
    annotations: list[dict[str, Any]] = [
        {"id": n, "image_id": image, "category_id": category, "bbox": box, "area": 25, "iscrowd": 0}
        for n, (image, category, box) in enumerate(boxes, 1)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    for image in images:
        Image.new("RGB", (20, 20)).save(folder / str(image["file_name"]))
    file = folder / "instances.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return CocoDetection(folder, ".", file.name)


def test_boxes_are_counted_by_class_and_what_was_dropped_is_said(tmp_path: Path) -> None:
    data = coco(tmp_path)
    line = summary(data)
    assert line.startswith("2 images, 3 objects, 2 classes (dog 2, cat 1), found: 1 x ")
    assert summary(Subset(data, np.array([0]))).startswith(
        "1 image, 2 objects, 2 classes (cat 1, dog 1), found:"
    )


def test_categories_are_counted(tmp_path: Path) -> None:
    for name, count in {"a": 1, "b": 3}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    data = ImageFolder(tmp_path)
    assert summary(data) == "4 images, 2 classes (b 3, a 1)"
    assert summary(Subset(data, np.array([0, 1]))) == "2 images, 2 classes (a 1, b 1)"


def test_masks_name_their_classes() -> None:
    line = summary(SemanticScenes(length=1234, split="train"))
    assert line.startswith("1,234 images, ")
    assert "classes (" in line
