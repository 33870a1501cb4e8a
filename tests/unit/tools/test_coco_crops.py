"""Objects of a COCO data set become pictures in class folders."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))
import coco_crops  # type: ignore[import-not-found] # noqa: E402


def test_writes_the_commonest_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coco_crops, "NUM_CLASSES", 2)
    monkeypatch.setattr(coco_crops, "MOST", 3)
    boxes = [(1, [10, 20, 60, 50])] * 5 + [(2, [0, 0, 50, 48])] * 2 + [(3, [0, 0, 90, 90])]
    boxes += [(3, [0, 0, 90, 47])] * 9  # too small
    for split in coco_crops.SPLITS:
        (tmp_path / "coco" / split).mkdir(parents=True)
        Image.new("L", (100, 80), 7).save(tmp_path / "coco" / split / "a.jpg")
        truth = {
            "images": [{"id": 5, "file_name": "a.jpg"}],
            "categories": [
                {"id": n + 1, "name": name} for n, name in enumerate(["one", "two", "c d"])
            ],
            "annotations": [
                {"image_id": 5, "category_id": number, "bbox": box, "iscrowd": 0}
                for number, box in boxes
            ]
            + [{"image_id": 5, "category_id": 3, "bbox": [0, 0, 90, 90], "iscrowd": 1}] * 9,
        }
        folder = tmp_path / "coco" / "annotations"
        folder.mkdir(exist_ok=True)
        (folder / f"instances_{split}.json").write_text(json.dumps(truth))
    coco_crops.main([f"source={tmp_path / 'coco'}", f"output={tmp_path / 'out'}"])
    assert "train {'one': 3, 'two': 2}" in capsys.readouterr().out
    found = sorted(path.relative_to(tmp_path / "out") for path in tmp_path.glob("out/*/*/*.png"))
    assert [path.parent.as_posix() for path in found] == [
        f"{split}/{name}" for split in ("train", "val") for name in ["one"] * 3 + ["two"] * 2
    ]
    with Image.open(tmp_path / "out" / found[0]) as crop:
        assert (crop.size, crop.mode) == ((60, 50), "RGB")
