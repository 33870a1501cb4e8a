from __future__ import annotations

import logging

import pytest

from densekit.data import Split, SplitRule, VocDetection


def test_one_is_subtracted_from_the_first_corner_only(voc):
    data = VocDetection(voc([("cat", [1, 1, 60, 40], 0), ("dog", [5, 6, 5, 6], 0)]), "train")
    assert data[0]["boxes"].tolist() == [[0, 0, 60, 40], [4, 5, 5, 6]]  # one pixel has area 1
    assert data[0]["truth"]["area"].tolist() == [2400, 1]


def test_difficult_is_ignored_in_training_and_told_to_evaluation(voc):
    data = VocDetection(voc([("cat", [2, 2, 9, 9], 1), ("cat", [12, 2, 19, 9], 0)]), "train")
    sample = data[0]
    assert sample["crowd"].tolist() == [True, False]
    assert sample["truth"]["difficult"].tolist() == [True, False]
    assert not sample["truth"]["crowd"].any()


def test_names_are_found_in_all_annotations_so_that_splits_agree(voc):
    root = voc([("cat", [2, 2, 9, 9], 0)], [("ant", [2, 2, 9, 9], 0)])
    (root / "ImageSets/Main/val.txt").write_text("im1 1\n")
    train, val = VocDetection(root, "train"), VocDetection(root, "val")
    assert train.names == val.names == ["ant", "cat"]
    assert len(val) == 1
    assert val.describe()["ids"] == [1, 2]


def test_unknown_class_is_refused_with_the_nearest(voc):
    root = voc([("cat", [2, 2, 9, 9], 0), ("dgo", [2, 2, 9, 9], 0)])
    with pytest.raises(ValueError, match=r"im0\.xml: object 2: class: .* got 'dgo'; did you mean"):
        VocDetection(root, "train", names=["cat", "dog"])


def test_nan_box_is_refused_with_file_and_object(voc):
    with pytest.raises(ValueError, match=r"im0\.xml, object 1 \(cat\).*finite"):
        VocDetection(voc([("cat", ["nan", 2, 9, 9], 0)]), "train")


def test_box_that_is_no_number_is_refused(voc):
    with pytest.raises(ValueError, match=r"im0\.xml: object 1: bndbox"):
        VocDetection(voc([("cat", ["left", 2, 9, 9], 0)]), "train")


def test_inverted_box_is_dropped_counted_or_refused(voc, caplog):
    root = voc([("cat", [20, 2, 9, 9], 0), ("cat", [2, 2, 9, 9], 0)])
    with caplog.at_level(logging.WARNING, "densekit.data"):
        data = VocDetection(root, "train")
    assert len(data[0]["boxes"]) == 1
    assert "1 x box inverted" in caplog.text
    with pytest.raises(ValueError, match="strict"):
        VocDetection(root, "train", strict=True)


def test_misspelt_split_names_the_others(voc):
    with pytest.raises(ValueError, match=r"trian\.txt; did you mean 'train'"):
        VocDetection(voc([("cat", [2, 2, 9, 9], 0)]), "trian")


@pytest.mark.parametrize("text", ["<annotation>", "", "{}"])
def test_malformed_file_is_named(voc, text):
    root = voc([("cat", [2, 2, 9, 9], 0)])
    (root / "Annotations/im0.xml").write_text(text)
    with pytest.raises(ValueError, match=r"im0\.xml: expected XML, got"):
        VocDetection(root, "train", names=["cat"])


def test_missing_files_are_named(voc):
    root = voc([("cat", [2, 2, 9, 9], 0)], [])
    (root / "Annotations/im1.xml").unlink()
    with pytest.raises(ValueError, match=r"im1\.xml: expected a readable file"):
        VocDetection(root, "train")
    (root / "JPEGImages/im0.jpg").unlink()
    with pytest.raises(ValueError, match=r"expected existing images, got 1 of 2 missing.*im0\.jpg"):
        VocDetection(root, "train")
    with pytest.raises(ValueError, match=r"VocDetection\.root: expected an existing folder"):
        VocDetection(root / "nowhere", "train")


def test_names_as_one_string_or_twice_are_refused(voc):
    root = voc([("cat", [2, 2, 9, 9], 0)])
    with pytest.raises(TypeError, match="list of class names"):
        VocDetection(root, "train", names="cat")
    with pytest.raises(TypeError, match="quote them"):
        VocDetection(root, "train", names=["cat", False])
    with pytest.raises(ValueError, match="twice"):
        VocDetection(root, "train", names=["cat", "cat"])


def test_size_left_out_is_read_from_the_image(voc):
    root = voc([("cat", [2, 2, 9, 9], 0)])
    path = root / "Annotations/im0.xml"
    path.write_text(path.read_text().replace("<width>60</width>", "<width>0</width>"))
    assert VocDetection(root, "train").sizes.tolist() == [[40, 60]]


BOX = (2, 2, 9, 9)


@pytest.mark.parametrize("word", ["1", " 1 ", "True", "true", "yes", "1.0"])
@pytest.mark.parametrize("key", ["difficult"])
def test_a_flag_may_be_a_word(voc, word, key):
    assert VocDetection(voc([("cat", BOX, word)]), "train")[0]["truth"]["difficult"].tolist() == [
        True
    ]


@pytest.mark.parametrize("word", ["0", "False", "no", "", "Unspecified"])
def test_a_flag_that_is_not_set(voc, word):
    assert not VocDetection(voc([("cat", BOX, word)]), "train")[0]["truth"]["difficult"].any()


@pytest.mark.parametrize("key", ["difficult", "truncated", "occluded"])
def test_an_unknown_flag_is_refused(voc, key):
    root = voc([("cat", BOX, 0)])
    file = root / "Annotations/im0.xml"
    file.write_text(file.read_text().replace("<difficult>0</difficult>", f"<{key}>perhaps</{key}>"))
    with pytest.raises(ValueError, match=rf"im0\.xml: object 1: {key}: expected 0 or 1.*perhaps"):
        VocDetection(root, "train")


@pytest.mark.parametrize(
    ("head", "encoding", "name"),
    [
        ('<?xml version="1.0" encoding="gb2312"?>', "gb2312", "车"),
        ("<?xml version='1.0' encoding='Shift_JIS' standalone='yes'?>", "shift_jis", "車"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252", "café"),
        ('\ufeff<?xml version="1.0" encoding="utf-8"?>', "utf-8", "café"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-16", "车"),
    ],
)
def test_xml_of_other_encodings(voc, head, encoding, name):
    root = voc([("cat", BOX, 0)])
    file = root / "Annotations/im0.xml"
    file.write_bytes((head + file.read_text().replace("cat", name)).encode(encoding))
    assert VocDetection(root, "train").names == [name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "expected XML, got: .*klingon"),
        (
            b'<?xml version="1.0" encoding="utf-8"?><annotation>\xff</annotation>',
            "expected XML, got",
        ),
        (b"<html><body>404</body></html>", "expected <annotation> .*, got <html>"),
        (b"", "expected XML, got"),
    ],
)
def test_what_is_no_annotation_is_refused(voc, content, message):
    root = voc([("cat", BOX, 0)])
    (root / "Annotations/im0.xml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"im0\.xml: {message}"):
        VocDetection(root, "train")


def test_a_name_space_hides_no_object(voc):
    root = voc([("cat", BOX, 0)])
    file = root / "Annotations/im0.xml"
    file.write_text(file.read_text().replace("<annotation>", '<annotation xmlns="urn:x">'))
    assert len(VocDetection(root, "train")[0]["boxes"]) == 1


def test_the_xml_decides_between_images_of_one_name(voc, write_image):
    root = voc([("cat", BOX, 0)])
    write_image(root / "JPEGImages/im0.png")
    with pytest.raises(
        ValueError, match=r"im0\.jpg: expected one image of this name, got .*im0\.png"
    ):
        VocDetection(root, "train")
    file = root / "Annotations/im0.xml"
    text = file.read_text()
    for name in ("im0.png", "im0.jpg"):
        file.write_text(text.replace("<annotation>", f"<annotation><filename>{name}</filename>"))
        assert VocDetection(root, "train").path(0).name == name


def test_names_with_spaces_folders_and_both_forms_of_unicode(voc):
    root = voc([("cat", BOX, 0)], [("cat", BOX, 0)], [("cat", BOX, 0)], [("cat", BOX, 0)])
    names = ["scan (1)", "cam1/a", "cam2/a", "cafe\u0301"]
    for number, name in enumerate(names):
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
            target = root / folder / f"{name}{suffix}"
            target.parent.mkdir(exist_ok=True)
            (root / folder / f"im{number}{suffix}").rename(target)
    lines = ["scan (1)", "cam1/a 1", "cam2/a.jpg", "caf\u00e9  -1", ""]
    (root / "ImageSets/Main/train.txt").write_text("\r\n".join(lines))
    data = VocDetection(root, "train")
    found = [data.path(i).relative_to(root / "JPEGImages").with_suffix("") for i in range(4)]
    assert list(map(str, found)) == names
    assert [len(data[i]["boxes"]) for i in range(4)] == [1] * 4


def test_what_systems_leave_behind_is_no_annotation(voc):
    root = voc([("cat", BOX, 0)])
    for name in ("._im0.xml", ".ipynb_checkpoints/im0-checkpoint.xml", "Thumbs.db"):
        (root / "Annotations" / name).parent.mkdir(exist_ok=True)
        (root / "Annotations" / name).write_bytes(b"\0\5\x16\7")
    (root / "JPEGImages/._im0.jpg").write_bytes(b"\0\5\x16\7")
    assert len(VocDetection(root, "train")) == len(VocDetection(root)) == 1


@pytest.mark.parametrize("apart", [True, False])
def test_any_two_folders_are_divided_by_hold_out(voc, write_image, caplog, apart):
    root = voc(*[[("cat", BOX, 0)] for _ in range(5)])
    write_image(root / "JPEGImages/unlabelled.jpg")
    if not apart:
        for file in (root / "Annotations").iterdir():
            file.rename(root / "JPEGImages" / file.name)
    folders = {"images": "JPEGImages", "annotations": "Annotations" if apart else "JPEGImages"}
    with caplog.at_level(logging.WARNING, "densekit.data"):
        data = VocDetection(root, **folders)
    assert "skipped 1 images without an XML file" in caplog.text
    parts = [Split(data, split, SplitRule(every=5)) for split in ("train", "val")]
    assert [len(part) for part in parts] == [4, 1]
    (root / folders["annotations"] / "lost.xml").write_text("<annotation/>")
    with pytest.raises(
        ValueError, match=r"expected existing images, got 1 of 6 missing .*lost\.jpg"
    ):
        VocDetection(root, **folders)
