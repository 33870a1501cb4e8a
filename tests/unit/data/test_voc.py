from __future__ import annotations

import logging

import pytest

from densekit.data import VocDetection


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
    with pytest.raises(ValueError, match=r"im0\.xml: object 2: unknown class 'dgo'; did you mean"):
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
    with pytest.raises(ValueError, match=r"im0\.xml: not valid XML"):
        VocDetection(root, "train", names=["cat"])


def test_missing_files_are_named(voc):
    root = voc([("cat", [2, 2, 9, 9], 0)], [])
    (root / "Annotations/im1.xml").unlink()
    with pytest.raises(ValueError, match=r"im1\.xml: cannot be read"):
        VocDetection(root, "train")
    (root / "JPEGImages/im0.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 images are missing.*im0\.jpg"):
        VocDetection(root, "train")
    with pytest.raises(ValueError, match=r"VocDetection\.root: no folder"):
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
