"""COCO's panoptic format: read as it was written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from densekit.app.results.panoptic import save_ids
from densekit.data import CocoPanoptic, PanopticScenes
from densekit.metrics import PanopticQuality
from densekit.testing import check_data

SIZE = (64, 80)
CATEGORIES = [
    {"id": 1, "name": "disc", "isthing": 1},
    {"id": 2, "name": "square", "isthing": 1},
    {"id": 3, "name": "triangle", "isthing": 1},
    {"id": 4, "name": "star", "isthing": 1},
    {"id": 5, "name": "ring", "isthing": 1},
    {"id": 6, "name": "sand", "isthing": 0},
    {"id": 7, "name": "grass", "isthing": 0},
    {"id": 9, "name": "water", "isthing": 0},
]


def write(folder: Path, count: int = 2) -> dict[str, Any]:
    """Writes scenes as COCO does, with large ids; returns the JSON file's content."""
    scenes = PanopticScenes("val", count, size=SIZE)
    (folder / "images").mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [*map(dict, CATEGORIES)],
    }
    for index in range(count):
        sample = scenes[index]
        cv2.imwrite(str(folder / f"images/{index}.png"), sample["image"][..., ::-1])
        numbers, segments = np.zeros(SIZE, np.int64), []
        for value in np.unique(sample["mask"][sample["mask"] > 0]).tolist():
            number, category = 70_000 * value + 5, CATEGORIES[value + 4]["id"]
            numbers[sample["mask"] == value] = number
            segments.append({"id": number, "category_id": category, "iscrowd": 0})
        for row, plane in enumerate(sample["instance_masks"]):
            numbers[plane > 0] = 300 + row
            left, top, right, bottom = sample["boxes"][row].tolist()
            segments.append(
                {
                    "id": 300 + row,
                    "category_id": int(sample["labels"][row]) + 1,
                    "iscrowd": int(row == 0),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(plane.sum()),
                }
            )
        save_ids(numbers, folder / f"panoptic/{index}.png")
        size = {"height": SIZE[0], "width": SIZE[1]}
        content["images"].append({"id": 10 + index, "file_name": f"{index}.png", **size})
        content["annotations"].append(
            {"image_id": 10 + index, "file_name": f"{index}.png", "segments_info": segments}
        )
    (folder / "panoptic.json").write_text(json.dumps(content))
    return content


def test_scenes_are_read_as_they_were_written(tmp_path: Path) -> None:
    write(tmp_path)
    found, scenes = (
        CocoPanoptic(tmp_path, "images", "panoptic.json"),
        PanopticScenes("val", 2, size=SIZE),
    )
    check_data(found)
    for index in range(2):
        one, other = found[index], scenes[index]
        for key in ("image", "boxes", "labels", "instance_masks", "mask"):
            np.testing.assert_array_equal(one[key], other[key])  # type: ignore[literal-required]
        assert one["truth"]["masks"] == other["truth"]["masks"]
        assert one["crowd"].tolist()[:2] == [True, False]
    described = found.describe()
    assert described["ids"] == [1, 2, 3, 4, 5]
    assert described["targets"]["mask"]["names"] == ["things", "sand", "grass", "water"]
    assert described["targets"]["mask"]["ids"] == [0, 6, 7, 9]
    files, _ = found.origin(1)
    assert [file.name for file in files] == ["1.png", "1.png"]


def test_its_truth_can_be_measured(tmp_path: Path) -> None:
    write(tmp_path, 1)
    sample = CocoPanoptic(tmp_path, "images", "panoptic.json")[0]
    metric = PanopticQuality([one["name"] for one in CATEGORIES], 5, [1, 2, 3])
    true = metric._true(sample["truth"])
    assert true.crowd.sum() == 1
    assert (true.numbers > 0).all()


def test_pixels_of_no_segment_are_ignored(tmp_path: Path) -> None:
    content = write(tmp_path, 1)
    stuff = content["annotations"][0]["segments_info"].pop(0)
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    path = tmp_path / "panoptic/0.png"
    stored = np.array(Image.open(path))
    stored[stored.astype(int) @ [1, 256, 65536] == stuff["id"]] = 0
    Image.fromarray(stored).save(path)
    sample = CocoPanoptic(tmp_path, "images", "panoptic.json")[0]
    before = PanopticScenes("val", 1, size=SIZE)[0]["mask"]
    assert (sample["mask"][before == (stuff["id"] - 5) // 70_000] == 255).all()


def _wrong(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, dict[str, Any]], None]:
    def apply(folder: Path, content: dict[str, Any]) -> None:
        change(content)
        (folder / "panoptic.json").write_text(json.dumps(content))

    return apply


def _segment(content: dict[str, Any]) -> dict[str, Any]:
    return content["annotations"][0]["segments_info"][-1]  # type: ignore[no-any-return]


def _grey(folder: Path, _: Any) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "panoptic/0.png")


CASES: dict[str, tuple[Callable[[Path, dict[str, Any]], object], str]] = {
    "no isthing": (
        _wrong(lambda c: c["categories"][0].pop("isthing")),
        "category 1: isthing: .* for CocoDetection",
    ),
    "no annotation": (
        _wrong(lambda c: c["annotations"].clear()),
        "image 10: expected an annotation, got none",
    ),
    "two": (
        _wrong(lambda c: c["annotations"].append(c["annotations"][0])),
        "image 10: expected one, got two",
    ),
    "no segments": (
        _wrong(lambda c: c["annotations"][0].pop("segments_info")),
        "segments_info: expected a list, got None",
    ),
    "id 0": (
        _wrong(lambda c: _segment(c).update(id=0)),
        "ids from 1 to 16777215, each once, got 0",
    ),
    "category": (
        _wrong(lambda c: _segment(c).update(category_id=77)),
        "category_id: expected one of .* got 77",
    ),
    "no category": (
        _wrong(lambda c: _segment(c).pop("category_id")),
        "expected the key 'category_id'",
    ),
    "no bbox": (_wrong(lambda c: _segment(c).pop("bbox")), "expected the key 'bbox'"),
    "unlisted": (
        _wrong(lambda c: c["annotations"][0]["segments_info"].pop()),
        r"0.png: expected the segments of image 10 .* \[30",
    ),
    "listed alone": (_wrong(lambda c: _segment(c).update(id=999)), r"0.png: .* 999\]"),
    "grey": (_grey, r"0.png: expected 8-bit RGB of 64 x 80 pixels, got uint8 \(64, 80\)"),
    "no png": (lambda folder, _: (folder / "panoptic/0.png").unlink(), "panoptic.json: .*0.png"),
    "no picture": (
        lambda folder, _: (folder / "panoptic/0.png").write_text("x"),
        "0.png: expected a PNG file of ids",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    change, message = CASES[name]
    change(tmp_path, write(tmp_path, 1))
    with pytest.raises((ValueError, OSError), match=message):
        CocoPanoptic(tmp_path, "images", "panoptic.json")[0]
