"""The real sets load whole, and their boxes and masks are what their files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densekit.data import CocoDetection, IdMasks, Resize, Source, VocDetection, YoloDetection
from densekit.data.reading.files import images_by_stem

pytestmark = pytest.mark.real


def check(sample):
    height, width = sample["image"].shape[:2]
    boxes = sample["boxes"]
    assert sample["image"].shape == (height, width, 3)
    assert sample["meta"]["original_size"] == (height, width)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= width).all()
    assert (boxes[:, [1, 3]] <= height).all()


@pytest.mark.parametrize(("split", "images"), [("train", 205), ("val", 87), ("test", 72)])
def test_bccd(folder, split, images):
    data = VocDetection(folder("bccd"), split)
    assert data.names == ["Platelets", "RBC", "WBC"]
    assert len(data) == images
    assert data.findings.counts == {}
    for index in range(len(data)):
        check(data[index])


def test_bccd_keeps_its_boxes_of_one_pixel(folder):
    split = [VocDetection(folder("bccd"), name) for name in ("train", "val", "test")]
    sides = np.concatenate([d.annotations.boxes[:, 2:] - d.annotations.boxes[:, :2] for d in split])
    assert (sides.min(axis=1) == 1).sum() == 2


def test_voc100(folder):
    root = folder("voc100")
    data = VocDetection(root, "all", names=(root / "voc.names").read_text().split())
    assert len(data) == len(images_by_stem(root / "JPEGImages")) == 100
    assert data.describe()["num_classes"] == 20
    assert not data.findings.rows
    for index in range(len(data)):
        check(data[index])


def test_voc100_is_the_same_in_yolo_txt_coco_json_and_voc_xml(folder):
    root = folder("voc100")
    text = root / "gts/yolo_format"
    yolo = YoloDetection(root, images="JPEGImages", labels="gts/yolo_format/obj_train_data")
    coco = CocoDetection(root, "JPEGImages", "gts/coco_format_v1/instances_default.json")
    voc = VocDetection(root, names=(text / "obj.names").read_text().split())
    assert yolo.names == coco.names == voc.names
    names = {Path(coco.path(index)).name: index for index in range(len(coco))}
    for index in range(len(yolo)):
        same = names[yolo.path(index).name]
        found, wanted = _rows(yolo, index), _rows(coco, same)
        np.testing.assert_allclose(found, wanted, atol=1e-3)  # six digits of up to 500 pixels
        wanted = _rows(voc, index, 1)  # the tool that wrote the others left VOC's corner at 1
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def _rows(data, index, corner=0):
    truth = data[index]["truth"]
    moved = truth["boxes"] + [corner, corner, 0, 0]
    return np.array(
        sorted([label, *box] for label, box in zip(truth["labels"], moved, strict=True))
    )


@pytest.mark.parametrize(
    ("split", "images", "objects", "crowds", "empty"),
    [("train", 343, 2974, 29, 3), ("val", 206, 1786, 21, 2)],
)
def test_coco_small(folder, split, images, objects, crowds, empty):
    root, name = folder("coco_small"), f"{split}2017"
    data = CocoDetection(root, name, f"annotations/instances_{name}.json", instance_masks=True)
    assert data.describe()["num_classes"] == 80
    assert data.ids[-1] == 90
    assert not data.findings.rows
    samples = (data[index] for index in range(len(data)))
    counts, hits = [], []
    for sample in samples:
        check(sample)
        counts.append((len(sample["labels"]), int(sample["crowd"].sum())))
        area, drawn = sample["truth"]["area"], sample["instance_masks"].sum(axis=(1, 2))
        hits.append(np.abs(drawn - area) <= 0.1 * area + 12)
    assert len(counts) == images
    assert np.sum(counts, axis=0).tolist() == [objects, crowds]
    assert sum(count == 0 for count, _ in counts) == empty
    assert np.concatenate(hits).mean() > 0.97


@pytest.mark.parametrize(("split", "images"), [("train", 120), ("val", 50)])
def test_pennfudan_masks_fill_their_boxes(folder, split, images):
    root = folder("pennfudan")
    data = CocoDetection(root, "images", f"instances_{split}.json", instance_masks=True)
    assert len(data) == images
    for index in range(len(data)):
        sample = data[index]
        check(sample)
        for box, mask in zip(sample["boxes"], sample["instance_masks"], strict=True):
            rows, columns = np.nonzero(mask == 1)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, tight, atol=1.01)


def test_pennfudan_s_numbered_masks_are_its_coco_file(folder):
    root = folder("pennfudan")
    data = IdMasks(root, ["pedestrian"], mask_suffix="_mask", instance_masks=True)
    assert len(data) == 170
    by_name = {data.path(index).name: index for index in range(len(data))}
    other = CocoDetection(root, "images", "instances_val.json", instance_masks=True)
    for index in range(0, len(other), 5):
        found, expected = data[by_name[other.path(index).name]], other[index]
        assert found["truth"]["masks"] == expected["truth"]["masks"]
        for key in ("boxes", "labels", "instance_masks"):
            np.testing.assert_array_equal(found[key], expected[key])


def test_loader_pads_real_images_of_mixed_sizes(folder):
    root, name = folder("coco_small"), "annotations/instances_train2017.json"
    data = CocoDetection(root, "train2017", name)
    source = Source(train=data, train_transform=Resize([128, 160], 260), group_by_aspect=True)
    batches = list(source.train_loader())
    assert len(batches) == 343 // 4
    mixed = [b for b in batches if len({bool(h <= w) for h, w in b["size"].tolist()}) > 1]
    assert len(mixed) <= 1
    for batch in batches:
        assert batch["image"].shape[2:] == tuple(batch["size"].amax(dim=0).tolist())
