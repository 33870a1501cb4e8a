from __future__ import annotations

import pytest

from densekit.data import SplitRule

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
        ({"every": 1}, r"SplitRule\.every: at least 2"),
        ({"folds": 5, "fold": 5}, r"SplitRule\.fold: 0 to 4"),
        ({"every": 5, "group": "p"}, r"has no bracket"),
        ({"every": 5, "group": "(p"}, r"SplitRule\.group"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SplitRule(**arguments)


def test_wrong_names():
    split = SplitRule(every=2, group=PATTERN)
    with pytest.raises(ValueError, match=r"is not in 'scan1'"):
        split.group_of("scan1")
    with pytest.raises(ValueError, match=r"split: 'valid' is not known.*'val'"):
        split.members("valid", ["a"])
    with pytest.raises(ValueError, match=r"split 'train': nothing is left of 1"):
        split.members("train", ["a"])
