"""What `predict format=yolo` writes is what the data sets of YOLO txt read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.app.results.writer import Writer
from densekit.data import YoloDetection, YoloSemantic
from densekit.ops.run_lengths import encode

BOXES = {
    "boxes": np.array([[1.5, 2, 11, 22], [0, 0, 40, 30], [3, 3, 5, 5]], np.float32),
    "scores": np.array([0.9, 0.5, 0.2], np.float32),
    "labels": np.array([1, 0, 1]),
}
NAMES = ["no", "größe"]


@pytest.fixture
def image(tmp_path: Path) -> np.ndarray:
    (tmp_path / "in/sub").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "in/sub/a b.png")
    return np.zeros((30, 40, 3), dtype=np.uint8)


def write(folder: Path, heads: dict, image: np.ndarray, results: dict) -> Path:
    writer = Writer(folder / "out", heads, overlays=False, labels="yolo")
    writer.add(image, 1, folder / "in/sub/a b.png", Path("sub/a b.jpg"), results)
    writer.close()
    return folder / "out"


def test_boxes_come_back(tmp_path: Path, image: np.ndarray) -> None:
    heads = {"detection": {"ids": [3, 17], "names": NAMES}}
    out = write(tmp_path, heads, image, {"detection": BOXES})
    assert (out / "labels/sub/a b.txt").read_text().split()[-1] == "0.5"
    data = YoloDetection(out, images=str(tmp_path / "in"), labels="labels")
    assert data.names == NAMES
    np.testing.assert_allclose(data[0]["boxes"], BOXES["boxes"][:2], atol=1e-3)
    assert data[0]["labels"].tolist() == [1, 0]  # the third is below the threshold
    assert (out / "results.json").is_file()


def test_masks_of_objects_come_back_as_their_largest_region(
    tmp_path: Path, image: np.ndarray
) -> None:
    planes = np.zeros((3, 30, 40), bool)
    planes[0, 3:20, 5:30] = planes[0, 25, 39] = True
    planes[1, 10, 12] = True
    result = BOXES | {"scores": np.array([0.9, 0.8, 0.7]), "masks": encode(planes)}
    heads = {"detection": {"ids": [3, 17], "names": NAMES}}
    out = write(tmp_path, heads, image, {"detection": result})
    data = YoloDetection(out, images=str(tmp_path / "in"), labels="labels", instance_masks=True)
    planes[0, 25, 39] = False  # another region; the third has none
    np.testing.assert_array_equal(data[0]["instance_masks"], planes[:2])
    entries = json.loads((out / "results.json").read_text())
    masks = [{**e["segmentation"], "counts": e["segmentation"]["counts"].encode()} for e in entries]
    assert masks == result["masks"]


def test_masks_come_back_without_their_holes(tmp_path: Path, image: np.ndarray) -> None:
    head = {"ids": [0, 1, 2], "names": ["background", *NAMES], "num_classes": 3, "background": True}
    mask = np.zeros((30, 40), np.uint8)
    mask[3:20, 5:30] = 1
    mask[8:12, 10:14] = 0
    mask[25, 39] = 2
    mask[24, 2:7] = 2
    out = write(tmp_path, {"parts": head}, image, {"parts": {"mask": mask}})
    assert len((out / "labels/sub/a b.txt").read_text().splitlines()) == 3
    data = YoloSemantic(out, images=str(tmp_path / "in"), labels="labels")
    mask[8:12, 10:14] = 1
    np.testing.assert_array_equal(data.mask(0), mask)


def test_several_heads_and_images_without_objects(tmp_path: Path, image: np.ndarray) -> None:
    heads = {name: {"ids": [1, 2], "names": NAMES} for name in ("a", "b")}
    nothing = {key: value[:0] for key, value in BOXES.items()}
    out = write(tmp_path, heads, image, {"a": BOXES, "b": nothing})
    assert (out / "labels/b/sub/a b.txt").read_text() == ""
    data = YoloDetection(out, config="data_a.yaml", images=str(tmp_path / "in"), labels="labels/a")
    assert len(data[0]["boxes"]) == 2
