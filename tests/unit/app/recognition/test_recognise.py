"""Which format a folder is taken for, and what is said where it is none or several."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from densekit.app.cli import main
from densekit.app.errors import UsageError
from densekit.app.recognition.initialise import default_name, new_file
from densekit.app.recognition.pairing import Affixes, find_affixes
from densekit.app.recognition.recognise import recognise
from densekit.app.recognition.tree import common_folder, split_of
from tests.unit.app.recognition import folders


def test_several_formats_are_named_with_their_commands(tmp_path: Path) -> None:
    folders.coco(tmp_path)
    folders.voc(tmp_path)
    with pytest.raises(
        UsageError, match=r"(?s)expected one format, got 2.*format=coco .*format=voc "
    ):
        recognise(tmp_path)
    assert recognise(tmp_path, "voc").format == "voc"
    with pytest.raises(UsageError, match="expected one of coco, voc, classes, got 'yolo'"):
        recognise(tmp_path, "yolo")


def test_several_data_sets_are_named_with_their_folders(tmp_path: Path) -> None:
    folders.series(tmp_path / "a b")
    folders.series(tmp_path / "c")
    with pytest.raises(UsageError, match=r"(?s)one data set, got 2.*init '.*a b'.*init .*/c "):
        recognise(tmp_path)


def test_nothing_says_what_is_there_and_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)got 0 files \(no files\)\n.*YOLO txt"):
        recognise(tmp_path)
    folders.picture(tmp_path / "a.png")
    with pytest.raises(
        UsageError, match=r"got 1 file \(1 \.png\); a\.png; images alone say nothing"
    ):
        recognise(tmp_path)
    with pytest.raises(UsageError, match=r"a\.png: expected COCO JSON, data\.yaml"):
        recognise(tmp_path / "a.png")


def test_annotations_without_their_images_are_named(tmp_path: Path) -> None:
    folders.coco(tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(
        UsageError, match=r"train2017\.json is COCO JSON, but its images, e\.g\. 0\.jpg"
    ):
        recognise(tmp_path)
    folders.voc(tmp_path / "other")
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(UsageError, match=r"0\.xml is VOC XML, but there is no folder"):
        recognise(tmp_path / "other")


def test_one_level_of_folders_is_looked_into(tmp_path: Path) -> None:
    folders.classes(tmp_path / "inner", splits=True)
    found = recognise(tmp_path)
    assert found.root == tmp_path / "inner"
    assert set(found.splits) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("write", "file", "expected"),
    [
        (folders.coco, "annotations/instances_train2017.json", "coco"),
        (folders.yolo, "data.yaml", "yolo"),
        (folders.table, "train.csv", "table"),
        (folders.volumes, "dataset.json", "volumes"),
    ],
)
def test_a_file_that_describes_the_data(tmp_path, write, file, expected) -> None:
    write(tmp_path)
    assert recognise(tmp_path / file).format == expected
    assert recognise(tmp_path / file).root == tmp_path


def test_one_split_alone_is_divided(tmp_path: Path) -> None:
    folders.coco(tmp_path)
    assert list(recognise(tmp_path / "annotations/instances_train2017.json").splits) == ["whole"]


def test_outlines_and_polygons_are_masks_where_asked_for(tmp_path: Path) -> None:
    folders.coco(tmp_path / "coco", outlines=True)
    folders.yolo(tmp_path / "yolo", row="{n} .1 .1 .9 .1 .9 .9\n")
    assert recognise(tmp_path / "coco").task == recognise(tmp_path / "yolo").task == "boxes"
    assert recognise(tmp_path / "coco", "coco_masks").task == "masks"
    assert recognise(tmp_path / "yolo", "yolo_masks").task == "masks"


def test_values_and_colours_become_classes_to_be_named(tmp_path: Path) -> None:
    folders.masks(tmp_path / "values")
    folders.masks(tmp_path / "colours", (0, 90, 200), colours=True)
    folders.masks(tmp_path / "binary", (0, 255))
    values, colours = recognise(tmp_path / "values"), recognise(tmp_path / "colours")
    assert values.splits["whole"]["names"] == {"background": 0, "class_1": 1, "class_3": 3}
    assert sorted(colours.splits["whole"]["colours"].values())[1] == [90, 45, 165]
    assert "the values are taken for classes" in values.notes[0]
    assert "the colours are taken for classes" in colours.notes[0]
    assert recognise(tmp_path / "binary").notes == ()


def test_splits_of_the_same_names_have_their_own_images(tmp_path: Path) -> None:
    folders.coco(tmp_path / "coco")
    found = recognise(tmp_path / "coco").splits
    assert [found[split]["images"] for split in ("train", "val")] == ["train2017", "val2017"]
    folders.voc_roboflow(tmp_path / "voc")
    found = recognise(tmp_path / "voc").splits
    assert [found[split]["images"] for split in ("train", "val")] == ["train", "valid"]
    for split in ("train", "val"):
        for n in range(3):
            folders.picture(tmp_path / f"apart/images/{split}/{n}.jpg")
            folders.text(tmp_path / f"apart/xml/{split}/{n}.xml", folders.VOC.format(name="a"))
    found = recognise(tmp_path / "apart").splits
    assert [found[s]["images"] for s in ("train", "val")] == ["images/train", "images/val"]


def test_masks_of_class_numbers_are_taken_among_several_kinds(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for n in range(4):
            name = f"{split}/ulm/ulm_{n:06}"
            folders.picture(tmp_path / f"leftImg8bit/{name}_leftImg8bit.png", n)
            folders.mask(tmp_path / f"gtFine/{name}_gtFine_labelIds.png", (0, 7, 11))
            folders.mask(tmp_path / f"gtFine/{name}_gtFine_color.png", (0, 70, 110), True)
    train = recognise(tmp_path).splits["train"]
    assert train["mask_suffix"].endswith("_labelIds")
    assert train["names"] == {"background": 0, "class_7": 7, "class_11": 11}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{split}_images", "{split}_masks"),
        ("{split}", "{split}_masks"),
        ("{split}-img", "{split}-labels"),
        ("images_{split}", "gt_{split}"),
    ],
)
def test_folders_of_masks_may_name_their_split(tmp_path: Path, images: str, masks: str) -> None:
    for split in ("train", "valid"):
        for n in range(3):
            folders.picture(tmp_path / images.format(split=split) / f"{n}.jpg", n)
            folders.mask(tmp_path / masks.format(split=split) / f"{n}.png", (0, 255))
    found = recognise(tmp_path)
    assert found.format == "masks"
    named = {split: f"{{root}}/{masks.format(split=split)}" for split in ("train", "valid")}
    assert {found.splits[s]["masks"] for s in ("train", "val")} == set(named.values())


def test_classes_in_folders_called_seg_are_no_masks(tmp_path: Path) -> None:
    for split in ("seg_train", "seg_test"):
        folders.classes(tmp_path / split)
    assert recognise(tmp_path / "seg_train").format == "classes"


def test_a_stray_file_does_not_hide_the_others(tmp_path: Path) -> None:
    folders.voc(tmp_path / "voc")
    folders.text(tmp_path / "voc/xml/0.xml", "<project/>")
    assert recognise(tmp_path / "voc").format == "voc"


def test_a_table_of_a_spreadsheet(tmp_path: Path) -> None:
    folders.table(tmp_path)
    (file,) = tmp_path.glob("*.csv")
    file.write_text(file.read_text().replace(",", ";"))
    assert recognise(tmp_path).format == "table"
    file.write_bytes(file.read_text().replace("filename", "B\xe4ume").encode("latin1"))
    with pytest.raises(UsageError, match="expected a text file in UTF-8, got"):
        recognise(tmp_path)


def test_detections_are_no_annotations(tmp_path: Path) -> None:
    folders.coco(tmp_path, splits=False)
    file = tmp_path / "annotations/instances_all2017.json"
    file.write_text(file.read_text().replace('"iscrowd"', '"score": 0.5, "iscrowd"'))
    with pytest.raises(UsageError, match="expected one of these"):
        recognise(tmp_path)


def test_classes_instead_of_people(tmp_path: Path) -> None:
    folders.people(tmp_path)
    assert recognise(tmp_path).format == "identities"
    assert recognise(tmp_path, "classes").format == "classes"


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        (["a", "b"], ["a", "b"], Affixes()),
        (["7", "12"], ["7_mask", "12_mask"], Affixes(mask_suffix="_mask")),
        (["img_009", "img_010"], ["009_gt", "010_gt"], Affixes("img_", "", "", "_gt")),
        (["x/c1_left", "y/c2_left"], ["x/c1_ids", "y/c2_ids"], Affixes("c", "_left", "c", "_ids")),
    ],
)
def test_affixes(images: list[str], masks: list[str], expected: Affixes) -> None:
    assert find_affixes(images, masks) == (expected, 2)


@pytest.mark.parametrize(
    ("path", "split"),
    [("images/train2017/", "train"), ("Valid", "val"), ("a/testing_2", "test"), ("trainer", None)],
)
def test_split_of_a_path(path: str, split: str | None) -> None:
    assert split_of(path) == split


def test_common_folder() -> None:
    assert common_folder(["a/b/c.png", "a/b/d/e.png"]) == "a/b"
    assert common_folder(["a/b.png", "c.png"]) == ""


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Äpfel & Birnen", "apfel_birnen"),
        ("2020", "data_2020"),
        ("bccd", "my_bccd"),
        ("日本", "my_data"),
    ],
)
def test_name_of_a_folder(tmp_path: Path, folder: str, name: str) -> None:
    assert default_name(tmp_path / folder) == name


def test_a_name_is_checked_and_a_file_kept(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name: expected letters"):
        new_file(tmp_path, "a b", tmp_path, False)
    with pytest.raises(UsageError, match="that densekit does not use itself, got bccd"):
        new_file(tmp_path, "bccd", tmp_path, False)
    file = new_file(tmp_path, "mine", tmp_path, False)
    file.write_text("edited")
    with pytest.raises(UsageError, match=r"mine\.yaml, which exists; name=NAME"):
        new_file(tmp_path, "mine", tmp_path, False)
    assert new_file(tmp_path, "mine", tmp_path, True) == file


def test_problems_are_told(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "fruit"
    folders.classes(root, splits=True)
    (root / "train/apple/7.jpg").write_bytes(b"no image")
    assert main(["init", "fruit", "output=elsewhere"]) == 0
    printed = capsys.readouterr().out
    assert "fewer than 10 training images: apple 8, pear 8" in printed
    assert "1 image cannot be read, e.g." in printed
    assert "in more than one split" in printed
    assert "save as: conf/data/fruit.yaml" in printed


def test_what_cannot_be_read_is_written_and_told(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    folders.masks(tmp_path / "road")
    (tmp_path / "road/masks/3.png").unlink()
    assert main(["init", "road"]) == 1
    assert "to be mended first: " in (printed := capsys.readouterr().out)
    assert "1 of 12 images have no mask" in printed
    assert Path("conf/data/road.yaml").is_file()


def test_a_read_only_folder_with_links(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    folders.masks(tmp_path / "stored")
    (tmp_path / "linked").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "stored" / name)
    subprocess.run(["chmod", "-R", "a-w", tmp_path / "linked", tmp_path / "stored"], check=True)
    try:
        assert main(["init", "linked"]) == 0
    finally:
        subprocess.run(["chmod", "-R", "u+w", tmp_path / "stored", tmp_path / "linked"], check=True)
    assert "masks that show it" in capsys.readouterr().out
