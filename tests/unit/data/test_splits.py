"""Splits by name and group, and data sets divided by them."""

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
CASES = [f"hospital{p % 3}_p{p:03d}_visit{v}" for p in range(23) for v in range(1 + p % 3)]
PATTERN = r"_(p\d+)_"


def parts(split, names=("train", "val", "test")):
    patients = [split.group_of(case) for case in CASES]
    return {name: [patients[i] for i in split.members(name, patients)] for name in names}


def test_no_patient_is_in_two_folds():
    seen = []
    for fold in range(5):
        found = parts(SplitRule(folds=5, fold=fold, val_every=6, group=PATTERN))
        sets = {name: set(patients) for name, patients in found.items()}
        assert not sets["train"] & sets["test"]
        assert not sets["train"] & sets["val"]
        assert not sets["val"] & sets["test"]
        assert sum(map(len, found.values())) == len(CASES)  # every volume is somewhere
        assert len(sets["test"]) in (4, 5)
        seen += sorted(sets["test"])
    assert sorted(seen) == sorted({f"p{p:03d}" for p in range(23)})


def test_folds_do_not_change_with_the_order_of_cases():
    split = SplitRule(folds=4, fold=1)
    names = [f"case{i}" for i in range(12)]
    forwards = {names[i] for i in split.members("test", names)}
    backwards = {names[::-1][i] for i in split.members("test", names[::-1])}
    assert forwards == backwards


def test_every_fifth_is_held_out():
    names = [f"case_{i:03d}" for i in range(260)]
    split = SplitRule(every=5, val_every=13)
    assert split.members("test", names) == list(range(0, 260, 5))
    assert len(split.members("val", names)) == 16
    assert len(split.members("train", names)) == 192
    assert split.members("all", names) == list(range(260))


def test_numbers_in_names_are_numbers():
    names = [str(i) for i in range(30)]
    assert SplitRule(every=5).members("test", names) == [0, 5, 10, 15, 20, 25]


def test_without_val_every_the_held_out_part_is_val_too():
    found = parts(SplitRule(every=4, group=PATTERN))
    assert found["val"] == found["test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"one of `every` and `folds`"),
        ({"every": 5, "folds": 5}, r"one of `every` and `folds`"),
        ({"every": 1}, r"SplitRule\.every: expected at least 2"),
        ({"folds": 5, "fold": 5}, r"SplitRule\.fold: expected 0 to 4"),
        ({"every": 5, "group": "p"}, r"expected a group in brackets"),
        ({"every": 5, "group": "(p"}, r"SplitRule\.group"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SplitRule(**arguments)


def test_wrong_names():
    split = SplitRule(every=2, group=PATTERN)
    with pytest.raises(ValueError, match=r"in every name, got 'scan1'"):
        split.group_of("scan1")
    with pytest.raises(ValueError, match=r"split: .* got 'valid'; did you mean 'val'"):
        split.members("valid", ["a"])
    with pytest.raises(ValueError, match=r"split 'train': expected a group, got none of 1"):
        split.members("train", ["a"])


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
    with pytest.raises(ValueError, match="'train': expected a group, got none of 1"):
        Split(data, "train", SplitRule(every=2))
    with pytest.raises(ValueError, match=r"expected 'p_\(x\)' in every name, got .*a\.png"):
        Split(data, "test", SplitRule(every=2, group="p_(x)"))
