"""What data sets need beyond unpacking: their configuration reads the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from densekit.app.downloads import prepare
from densekit.data import CocoSemantic, MaskList, VocSegmentation


def image(file: Path, size: tuple[int, int] = (8, 6)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 9, 9)).save(file)


def mask(file: Path, values: np.ndarray, palette: list[int] | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values.astype(np.uint8))
    if palette:
        picture.putpalette(palette)
    picture.save(file)


def text(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_camvid(tmp_path: Path) -> None:
    folder = tmp_path / "camvid"
    image(folder / "train/one.png")
    mask(folder / "trainannot/one.png", np.arange(48).reshape(6, 8) % 12)
    for split in ("train", "val", "test"):
        pair = "/SegNet/CamVid/train/one.png /SegNet/CamVid/trainannot/one.png\n"
        text(folder / f"segnet/{split}.txt", pair)
    prepare.camvid(tmp_path)
    data = MaskList(folder, "val.txt", ignore=[11])
    assert list(data.describe()["names"])[3] == "Road"
    assert set(np.unique(data[0]["mask"])) == {*range(11), 255}
    text(folder / "val.txt", "my own list")
    prepare.camvid(tmp_path)
    assert (folder / "val.txt").read_text() == "my own list"


def vessels(folder: Path, image_name: str, mask_name: str) -> None:
    image(folder / image_name)
    mask(folder / mask_name, 255 * np.tri(6, 8))


def check_vessels(folder: Path, train: int, test: int) -> None:
    for split, count in (("train", train), ("test", test)):
        data = MaskList(folder, f"{split}.txt", names=["vessel"])
        assert len(data) == count
        assert np.unique(data[0]["mask"]).tolist() == [0, 1]


def test_stare(tmp_path: Path) -> None:
    for number in range(1, 13):
        name = f"im{number:04}"
        vessels(tmp_path / "STARE", f"images/{name}.ppm", f"labels/{name}.ah.ppm")
    prepare.stare(tmp_path)
    check_vessels(tmp_path / "STARE", 10, 2)


def test_chase_db1(tmp_path: Path) -> None:
    for number in range(22):
        name = f"Image_{number // 2 + 1:02}{'LR'[number % 2]}"
        vessels(tmp_path / "CHASE_DB1", f"{name}.jpg", f"{name}_1stHO.png")
        mask(tmp_path / "CHASE_DB1" / f"{name}_2ndHO.png", np.zeros((6, 8)))
    prepare.chase_db1(tmp_path)
    check_vessels(tmp_path / "CHASE_DB1", 20, 2)


def test_drive(tmp_path: Path) -> None:
    for split, numbers in {"training": (21, 22), "test": (1,)}.items():
        for number in numbers:
            files = f"images/{number:02}_{split}.tif", f"1st_manual/{number:02}_manual1.gif"
            vessels(tmp_path / "DRIVE" / split, *files)
    prepare.drive(tmp_path)
    check_vessels(tmp_path / "DRIVE", 2, 1)


def test_pennfudan(tmp_path: Path) -> None:
    people = np.zeros((6, 8))
    people[1:3, 2:4], people[4:, 5:] = 1, 2
    for name in ("FudanPed00001", "FudanPed00002", "PennPed00093"):
        image(tmp_path / f"pennfudan/images/{name}.png")
        mask(tmp_path / f"pennfudan/masks/{name}_mask.png", people)
    prepare.pennfudan(tmp_path)
    sets = {
        split: CocoSemantic(tmp_path / "pennfudan", "images", f"instances_{split}.json")
        for split in ("train", "val")
    }
    assert {split: len(data) for split, data in sets.items()} == {"train": 1, "val": 2}
    assert (sets["val"][1]["mask"] == (people > 0)).all()


def test_the_test_split_of_pennfudan_has_fifty_images() -> None:
    assert len({*prepare.FUDAN_TEST}) + len({*prepare.PENN_TEST}) == 50


def test_voc12aug(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit/VOC2012"
    palette = [value for index in range(256) for value in (index, 0, 255 - index)]
    for name in ("a", "b", "c", "d"):
        image(root / f"JPEGImages/{name}.jpg")
    for name, value in (("a", 1), ("b", 2)):  # a is in train, b in val
        mask(root / f"SegmentationClass/{name}.png", np.full((6, 8), value), palette)
    text(root / "ImageSets/Segmentation/train.txt", "a\n")
    text(root / "ImageSets/Segmentation/val.txt", "b\n")
    text(tmp_path / "sbd/train.txt", "a\nb\nc\n")
    text(tmp_path / "sbd/val.txt", "d\n")
    for name, value in (("a", 9), ("b", 9), ("c", 3), ("d", 20)):
        path = tmp_path / f"sbd/cls/{name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"GTcls": {"Segmentation": np.full((6, 8), value, np.uint8)}})
    for _ in range(2):
        prepare.voc12aug(tmp_path)
    data = VocSegmentation(root, "train_aug", masks="SegmentationClassAug")
    assert [np.unique(data[index]["mask"]).tolist() for index in range(3)] == [[1], [3], [20]]
    assert len(data) == 3


@pytest.mark.parametrize("name", ["a", "c"])
def test_masks_of_voc12aug_look_alike(tmp_path: Path, name: str) -> None:
    test_voc12aug(tmp_path)
    with Image.open(tmp_path / f"VOCdevkit/VOC2012/SegmentationClassAug/{name}.png") as file:
        assert file.mode == "P"
        assert (file.getpalette() or [])[3:6] == [1, 0, 254]
