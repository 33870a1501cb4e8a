"""The options for folders of one's own: from files on disk to a resolved configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.app.config.overrides import parse
from densekit.app.run.job import checked, configuration

NUMBER = 10
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def images(folder: Path, mode: str = "RGB") -> None:
    folder.mkdir(parents=True)
    for number in range(NUMBER):
        Image.fromarray(np.full((20, 30), number % 2, np.uint8)).convert(mode).save(
            folder / f"{number}.png"
        )


def sizes(words: list[str]) -> list[int]:
    """Images of each split, from the words of a command line."""
    (source,) = checked(configuration(parse(words))).sources.values()
    return [len(split) for split in (source.train, source.val, source.test) if split is not None]


@pytest.mark.parametrize(
    "folders", [("JPEGImages", "Annotations"), ("pictures", "xml"), (".", ".")]
)
def test_voc_folder(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = tmp_path / "cells"
    images(root / folders[0])
    (root / folders[1]).mkdir(exist_ok=True)
    for number in range(NUMBER):
        text = f"<object><name>{'ab'[number % 2]}</name>{BOX}</object>"
        text = f"<annotation>{text}</annotation>"
        (root / folders[1] / f"{number}.xml").write_text(text)
    words = ["data=voc_folder", f"paths.data={root}"]
    if folders[0] != "JPEGImages":
        words += [f"vars.whole.images={folders[0]}", f"vars.whole.annotations={folders[1]}"]
    assert sizes(words) == [7, 1, 2]
    assert sum(sizes([*words, "vars.splits.group='^([0-9]+)'"])) == NUMBER


@pytest.mark.parametrize("roboflow", [False, True])
def test_coco_folder(tmp_path: Path, roboflow: bool) -> None:
    words = ["data=coco_folder", f"paths.data={tmp_path}"]
    names = ["heading", "a", "b"]
    for split, folder in (("train", "train"), ("val", "valid" if roboflow else "val")):
        images(tmp_path / folder)
        file = f"{folder}/_annotations.coco.json" if roboflow else f"{folder}.json"
        listed = [{"id": n, "file_name": f"{n}.png", "height": 20, "width": 30} for n in range(10)]
        box = {"bbox": [1, 1, 9, 9], "iscrowd": 0}
        boxes = [{"id": n, "image_id": n, "category_id": 1 + n % 2, **box} for n in range(10)]
        categories = [{"id": number, "name": name} for number, name in enumerate(names)]
        content = {"images": listed, "annotations": boxes, "categories": categories}
        (tmp_path / file).write_text(json.dumps(content))
        if roboflow:
            words += [f"vars.{split}.images={folder}", f"vars.{split}.annotations={file}"]
            words += [f"vars.{split}.names=[a,b]"]
    assert sizes(words) == [NUMBER, NUMBER]
    cfg = checked(configuration(parse(words))).cfg
    assert cfg["heads"]["detection"]["num_classes"] == 3 - roboflow


def test_mask_folder(tmp_path: Path) -> None:
    images(tmp_path / "images")
    images(tmp_path / "masks", "L")
    words = ["data=mask_folder", f"paths.data={tmp_path}", "head=unet", "neck=none"]
    assert sizes([*words, "metrics=segmentation", "vars.whole.names=[crack]"]) == [7, 1, 2]


def test_id_mask_folder(tmp_path: Path) -> None:
    images(tmp_path / "images")
    images(tmp_path / "masks", "L")
    assert sizes(["data=id_mask_folder", f"paths.data={tmp_path}"]) == [7, 1, 2]


def test_yolo_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images(tmp_path / "images" / split)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for number in range(NUMBER):
            text = f"{number % 2} .5 .5 .5 .5\n"
            (tmp_path / "labels" / split / f"{number}.txt").write_text(text)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\n")
    assert sizes(["data=yolo_folder", f"paths.data={tmp_path}"]) == [NUMBER, NUMBER]
