"""What `predict` writes of panoptic segments: COCO's format and overlays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densekit.app.results.writer import Writer
from densekit.heads import Panoptic
from densekit.ops.run_lengths import encode
from densekit.visualization.segments import draw_segments

HEADS: dict[str, Any] = {
    "detection": {"names": ["cat"], "ids": [17], "num_classes": 1},
    "segmentation": {"names": ["things", "sky"], "ids": [0, 187], "background": True},
}


def merged(count: int = 300) -> tuple[Panoptic, dict[str, Any]]:
    """A column of instances on sky; their ids need more than a byte."""
    planes = np.zeros((count, count, 8), np.uint8)
    planes[np.arange(count), np.arange(count), :4] = 1
    merge = Panoptic(HEADS, things="detection", stuff="segmentation", min_stuff_area=1)
    results: Any = {
        "detection": {
            "boxes": np.zeros((0, 4)),
            "masks": encode(planes),
            "scores": np.full(count, 0.75),
            "labels": np.zeros(count, np.int64),
        },
        "segmentation": {"mask": np.ones((count, 8), np.uint8)},
    }
    return merge, merge(results)


def test_coco_panoptic_format(tmp_path: Path) -> None:
    merge, result = merged()
    image = np.zeros((300, 8, 3), np.uint8)
    writer = Writer(tmp_path, {**HEADS, "panoptic": merge.info})
    writer.add(image, 42, Path("a/b.jpg"), Path("a/b.jpg"), {"panoptic": result})
    writer.close()

    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert content["categories"] == [
        {"id": 17, "name": "cat", "isthing": 1},
        {"id": 187, "name": "sky", "isthing": 0},
    ]
    (annotation,) = content["annotations"]
    assert annotation["image_id"] == 42
    stored = np.asarray(Image.open(tmp_path / "panoptic" / annotation["file_name"]))
    numbers = stored.astype(int) @ [1, 256, 65536]
    np.testing.assert_array_equal(numbers, result["panoptic"])
    assert numbers.max() == 301
    first, last = annotation["segments_info"][0], annotation["segments_info"][-1]
    assert first == {"id": 1, "category_id": 17, "isthing": 1, "area": 4, "score": 0.75}
    assert last == {"id": 301, "category_id": 187, "isthing": 0, "area": 1200}
    assert (tmp_path / "overlays/panoptic/a/b.jpg").is_file()


def test_neighbours_of_one_class_are_told_apart() -> None:
    panoptic = np.zeros((800, 800), np.int32)  # not enlarged
    panoptic[:, :200], panoptic[:, 200:300] = 1, 2
    segments = [{"id": number, "label": 0, "name": "cat"} for number in (1, 2)]
    drawn = draw_segments(np.full((800, 800, 3), 200, np.uint8), panoptic, segments)
    line = drawn[200].astype(int)
    assert (line[100] == line[250]).all()
    assert (line[199] != line[100]).any()
    assert (line[350] == 80).all()  # no segment
