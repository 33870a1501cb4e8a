from __future__ import annotations

import pytest

from densekit.data.annotations.yolo_config import read_yolo_config


def read(folder, text):
    (folder / "data.yaml").write_text(text)
    return read_yolo_config(folder / "data.yaml", "config")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [a, b]", ["a", "b"]),
        ("names: {1: b, 0: a}", ["a", "b"]),
        ("names: [no, 1, ~x]", ["no", "1", "~x"]),
        ("nc: 2", ["class_0", "class_1"]),
        ("nc: 1\nnames: [a]", ["a"]),
    ],
)
def test_names(tmp_path, names, expected):
    assert read(tmp_path, f"train: x\n{names}").names == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: x", "expected the key names, got train"),
        ("names: [a, a]", "names: expected every class once, got 'a' twice"),
        ("nc: 3\nnames: [a, b]", "nc: expected the 2 classes of names, got 3"),
        ("nc: many\nnames: [a]", "nc: expected whole numbers from 0, got 'many'"),
        ("names: {0: a, 2: b}", "names: expected the class numbers 0 to 1, got 0, 2"),
        ("names: {a: 0}", "names: expected whole numbers from 0, got 'a'"),
        ("names: [a]\nkpt_shape: [17, 3]", "expected boxes or polygons, got keypoints"),
        ("[a, b]", "expected keys such as train"),
        ("names: [a", "expected YAML, got"),
        ("names: [a]\ntrain: [{a: b}]", "train: expected folders or lists of images"),
    ],
)
def test_bad_file_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"data\.yaml: {message}"):
        read(tmp_path, text)


def test_missing_file_names_the_others(tmp_path):
    (tmp_path / "coco8.yaml").write_text("names: [a]")
    with pytest.raises(ValueError, match=r"config: expected an existing file.*holds coco8\.yaml"):
        read_yolo_config(tmp_path / "data.yaml", "config")


@pytest.mark.parametrize(
    "train",
    ["images/a", "[images/a]", "a.txt", "./images/a", "../images/a", "data/a.txt", r"images\a"],
)
@pytest.mark.parametrize("path", ["", "path: .", "path: /elsewhere/that/is/gone", "path: ../set"])
def test_a_split_is_a_folder_or_a_list(tmp_path, write_image, train, path):
    write_image(tmp_path / "images/a/1.png")
    (tmp_path / "a.txt").write_text("./images/a/1.png\n\n")
    found = read(tmp_path, f"names: [a]\ntest:\n{path}\ntrain: {train}").images("train", "split")
    assert [image.resolve() for image in found] == [tmp_path / "images/a/1.png"]


def test_missing_split_folder_or_image_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1.png")
    config = read(tmp_path, "names: [a]\ntrain: images\nval: a.txt")
    with pytest.raises(
        ValueError, match=r"split: .*expected one of train, val, got 'tain'; did you"
    ):
        config.images("tain", "split")
    with pytest.raises(ValueError, match=r"data\.yaml: train: expected an existing folder.*images"):
        config.images("train", "split")
    with pytest.raises(ValueError, match=r"a\.txt: expected an existing .*got 1\.png"):
        config.images("val", "split")
