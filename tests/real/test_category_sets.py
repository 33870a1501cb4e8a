"""The real sets of series and of DNA hold what their pages say."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import ImageFolder, SequenceTable, Split, SplitRule, UcrSeries

pytestmark = pytest.mark.real

SETS = {  # series of train and test, their length, classes
    "Coffee": (28, 28, 286, 2),
    "ECG200": (100, 100, 96, 2),
    "FaceFour": (24, 88, 350, 4),
    "GunPoint": (50, 150, 150, 2),
    "OSULeaf": (200, 242, 427, 6),
}


@pytest.mark.parametrize("name", SETS)
def test_ucr(folder, name):
    train, test, length, classes = SETS[name]
    for split, count in (("train", train), ("test", test)):
        data = UcrSeries(folder("ucr") / name, split)
        assert data.sizes.tolist() == [[length]] * count
        assert data.describe()["num_classes"] == classes
        assert set(data.categories) == set(range(classes))
        values = np.stack([data[i]["image"] for i in range(count)])
        np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-3)  # as the archive says
        np.testing.assert_allclose(values.std(axis=1), 1, atol=0.02)
        last = (folder("ucr") / name / f"{name}_{split.upper()}.ts").read_text().split()[-1]
        numbers, label = last.split(":")
        assert data.names[data.categories[-1]] == label
        np.testing.assert_allclose(values[-1].ravel(), np.float32(numbers.split(",")))


def test_splice(folder):
    header = ["label", "name", "sequence"]
    data = SequenceTable(folder("splice") / "splice.data", header=header)
    assert data.names == ["EI", "IE", "N"]
    assert np.bincount(data.categories).tolist() == [767, 768, 1655]
    assert data.sizes.tolist() == [[60]] * 3190
    values = np.stack([data[i]["image"] for i in range(len(data))])
    np.testing.assert_allclose(values.sum(axis=2), 1, rtol=1e-6)
    counts = np.sum(values == 1, axis=(0, 1))  # of A, C, G and T, without the ambiguous ones
    assert counts.tolist() == [44487, 50300, 50245, 46308]
    seen = []
    for fold in range(10):
        splits = SplitRule(folds=10, fold=fold)
        train, test = (Split(data, split, splits) for split in ("train", "test"))
        assert len(train) + len(test) == len(data)
        assert not set(train.keys) & set(test.keys)
        seen += test.positions.tolist()
    assert sorted(seen) == list(range(len(data)))


def test_faces_are_folders_of_classes(folder):
    data = ImageFolder(folder("faces_orl"), channels=1)
    assert data.describe()["num_classes"] == 40
    assert np.bincount(data.categories).tolist() == [10] * 40
    assert data[5]["image"].shape == (112, 92, 1)
