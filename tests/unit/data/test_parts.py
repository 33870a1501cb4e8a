"""Train, val and test as parts of one data set of masks."""

from __future__ import annotations

import shutil

import pytest

from densekit.data import (
    MaskFolder,
    Scenes,
    Source,
    Split,
    SplitRule,
    class_frequencies,
)

SIZE = (6, 8)


def test_parts_divide_the_whole_by_position_and_by_patient(pair):
    for patient, image in [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (3, 3)]:
        root = pair(f"i/p{patient}_{image}.png", f"m/p{patient}_{image}.png")
    data = MaskFolder(root / "i", root / "m", names=["cell"])
    held, rest = (Split(data, split, SplitRule(every=3)) for split in ("test", "train"))
    assert [part.positions.tolist() for part in (held, rest)] == [[0, 3], [1, 2, 4, 5]]
    sample = held[1]
    assert (sample["index"], sample["meta"]["image_id"]) == (1, 3)
    assert held.sizes.tolist() == [[6, 8]] * 2
    assert class_frequencies(held) == {"background": 80, "cell": 16}
    assert Source(train=rest, val=held).describe()["names"] == ["cell"]
    by_patient = [
        Split(data, "test", SplitRule(folds=3, fold=n, group=r"^p(\d+)_")).positions.tolist()
        for n in range(3)
    ]
    assert sorted(by_patient) == [[0, 1], [2], [3, 4, 5]]
    others = Split(data, "train", SplitRule(every=3, group=r"^p(\d+)_"))  # without patient 1
    nested = Split(others, "train", SplitRule(every=2, group=r"^p(\d+)_"))  # and without 2
    assert [nested.path(i).name for i in range(len(nested))] == ["p3_1.png", "p3_2.png", "p3_3.png"]


def test_parts_do_not_depend_on_where_the_data_lie(pair, tmp_path):
    for number in range(12):
        root = pair(f"i/p{number}.png", f"m/p{number}.png")
    elsewhere = tmp_path / "patient7" / "copy"
    shutil.copytree(root / "i", elsewhere / "i")
    shutil.copytree(root / "m", elsewhere / "m")
    found = []
    for place in (root, elsewhere):
        data = MaskFolder(place / "i", place / "m", names=["cell"])
        part = Split(data, "test", SplitRule(folds=3, fold=1))
        found.append([part.path(i).name for i in range(len(part))])
    assert found[0] == found[1]


def test_parts_of_images_without_a_file():
    part = Split(Scenes(length=12), "test", SplitRule(every=5))
    assert part.positions.tolist() == [0, 5, 10]


def test_bad_parts(pair):
    root = pair("i/a.png", "m/a.png")
    data = MaskFolder(root / "i", root / "m", names=["cell"])
    with pytest.raises(ValueError, match="'train': nothing is left of 1 groups"):
        Split(data, "train", SplitRule(every=2))
    with pytest.raises(ValueError, match=r"SplitRule\.group: 'p_\(x\)' is not in .*a\.png"):
        Split(data, "test", SplitRule(every=2, group="p_(x)"))
