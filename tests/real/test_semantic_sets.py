"""The real sets of semantic masks load whole and hold what their files say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from densekit.data import CocoSemantic, MaskFolder, MaskList, Split, SplitRule, class_frequencies

pytestmark = pytest.mark.real

CAMVID = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist"


@pytest.mark.parametrize(("split", "images"), [("train", 367), ("val", 101), ("test", 233)])
def test_camvid(folder, split, images):
    root = folder("camvid")
    data = MaskList(root, f"{split}.txt")
    assert data.names == CAMVID.split()  # from its classes.json
    assert data.sizes.tolist() == [[360, 480]] * images
    counts = np.zeros(12, dtype=np.int64)
    for index in range(images):
        path = data.path(index)
        stored = np.asarray(Image.open(root / f"{split}annot" / f"{path.stem}.png"))
        counts += np.bincount(stored.ravel(), minlength=12)
        np.testing.assert_array_equal(data.mask(index), np.where(stored == 11, 255, stored))
    assert list(class_frequencies(data).values()) == counts[:11].tolist()
    assert data[0]["image"].shape == (360, 480, 3)


def test_camvid_is_the_same_without_its_class_file(folder, tmp_path):
    root = folder("camvid")
    lines = (root / "val.txt").read_text().split()
    (tmp_path / "pairs.csv").write_text(
        "image,mask\n"
        + "".join(f"{root / i},{root / m}\n" for i, m in zip(lines[::2], lines[1::2], strict=True))
    )
    data = MaskList(tmp_path, "pairs.csv", names=CAMVID.split(), ignore=[11])
    np.testing.assert_array_equal(data.mask(3), MaskList(root, "val.txt").mask(3))


def test_isbi2012_membranes_in_five_folds(folder):
    root = folder("isbi2012") / "train"
    data = MaskFolder(root / "image", root / "label", names={"membrane": 0}, channels=1)
    assert len(data) == 30
    assert data.describe() | {"num_classes": 1, "channels": 1} == data.describe()
    counts = class_frequencies(data)
    assert sum(counts.values()) == 30 * 512 * 512
    assert 0.2 < counts["membrane"] / sum(counts.values()) < 0.25
    held = [Split(data, "test", SplitRule(folds=5, fold=number)) for number in range(5)]
    assert [len(part) for part in held] == [6] * 5
    paths = {part.path(i) for part in held for i in range(6)}
    assert len(paths) == 30
    fifth = Split(data, "test", SplitRule(every=5))
    assert [fifth.path(i).stem for i in range(6)] == ["0", "5", "10", "15", "20", "25"]
    assert fifth[1]["image"].shape == (512, 512, 1)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_coco_small_as_pycocotools_draws_it(folder, split):
    root, name = folder("coco_small"), f"annotations/instances_{split}.json"
    data = CocoSemantic(root, split, name)
    assert len(data.names) == 81
    reference = COCO(str(root / name))
    classes = {category: label for label, category in enumerate(data.describe()["ids"])}
    crowds = 0
    for index in range(len(data)):
        image_id = data[index]["truth"]["image_id"]
        objects = reference.loadAnns(reference.getAnnIds(image_id))
        wanted = np.zeros(data.sizes[index], dtype=np.uint8)
        for crowd in (item for item in objects if item["iscrowd"]):
            wanted[reference.annToMask(crowd) == 1] = 255
            crowds += 1
        for item in sorted((o for o in objects if not o["iscrowd"]), key=lambda o: -o["area"]):
            wanted[reference.annToMask(item) == 1] = classes[item["category_id"]]
        np.testing.assert_array_equal(data.mask(index), wanted)
    assert crowds > 0


@pytest.mark.parametrize(("split", "images"), [("train", 120), ("val", 50)])
def test_pennfudan_is_its_instance_masks(folder, split, images):
    root = folder("pennfudan")
    data = CocoSemantic(root, "images", f"instances_{split}.json")
    assert data.names == ["background", "pedestrian"]
    assert len(data) == images
    for index in range(images):
        stored = np.asarray(Image.open(root / "masks" / f"{data.path(index).stem}_mask.png"))
        np.testing.assert_array_equal(data.mask(index), stored > 0)
