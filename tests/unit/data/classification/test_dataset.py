"""Readers of categories: folders, tables, series and sequences; what they refuse."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densekit.data import (
    Augment,
    ImageFolder,
    ImageTable,
    Patch,
    Repeat,
    SequenceTable,
    Source,
    Split,
    SplitRule,
    UcrSeries,
    VolumeAugment,
    read_series,
)
from densekit.data.classification.sequences import read_sequences
from densekit.data.classification.series import read_ts
from densekit.data.collate import collate
from densekit.types import check_batch


def write_images(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path, "dog/10.png", "dog/2.png", "cat/deep/a.png", ".hidden/b.png")
    (tmp_path / "readme.txt").write_text("x")
    return tmp_path


def test_folders_are_classes_in_torchvision_s_order(folder: Path) -> None:
    data = ImageFolder(folder)
    assert data.names == ["cat", "dog"]
    assert [data.path(i).name for i in range(len(data))] == ["a.png", "2.png", "10.png"]
    assert [int(data[i]["category"]) for i in range(3)] == [0, 1, 1]
    sample = data[2]
    assert sample["image"].shape == (6, 8, 3)
    assert sample["meta"]["path"].endswith("10.png")
    assert sample["truth"]["category"] == 1
    assert sample["truth"]["size"] == (6, 8)
    assert data.sizes.tolist() == [[6, 8]] * 3
    described = data.describe()
    assert (described["num_classes"], described["multilabel"]) == (2, False)
    batch = collate([data[i] for i in range(3)], training=True)
    check_batch(batch)
    assert batch["category"].tolist() == [0, 1, 1]


def test_names_give_the_order_and_classes_that_are_not_there(folder: Path) -> None:
    data = ImageFolder(folder, names=["dog", "bird", "cat"])
    assert [int(data[i]["category"]) for i in range(3)] == [0, 0, 2]
    with pytest.raises(ValueError, match=r"got 'dog'; did you mean 'dogs'"):
        ImageFolder(folder, names=["dogs", "cat"])


def test_folders_that_cannot_be_right(folder: Path, tmp_path: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected images of every class, got none in .*empty"):
        ImageFolder(folder)
    with pytest.raises(ValueError, match=r"expected a folder per class in .*, got 10.png, 2.png"):
        ImageFolder(folder / "dog")
    with pytest.raises(ValueError, match=r"ImageFolder.root: expected an existing folder"):
        ImageFolder(folder / "nothing")


def write_table(root: Path, text: str) -> Path:
    write_images(root, "a.png", "b.png", "c.png")
    (root / "table.csv").write_text(text)
    return root


def test_a_table_of_classes(tmp_path: Path) -> None:
    root = write_table(
        tmp_path, "image, label, split, age\na.png, x10, train, 3\nb.png, x2, val, 4\n"
    )
    data = ImageTable(root, "table.csv", split="train")
    assert data.names == ["x2", "x10"]  # of all rows
    assert (len(data), int(data[0]["category"])) == (1, 1)
    assert ImageTable(root, "table.csv", names=["x10", "x2"])[1]["category"] == 1
    with pytest.raises(ValueError, match="got 'tran'; did you mean 'train'"):
        ImageTable(root, "table.csv", split="tran")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("image,label\na.png,x|y\nb.png,\nc.png,y\n", {"separator": "|"}),
        ("image,x,y\na.png,1,1\nb.png,0,0\nc.png,false,true\n", {"columns": ["x", "y"]}),
    ],
)
def test_a_table_of_labels(tmp_path: Path, text: str, settings: Any) -> None:
    data = ImageTable(write_table(tmp_path, text), "table.csv", **settings)
    assert data.names == ["x", "y"]
    assert data.describe()["multilabel"]
    batch = collate([data[i] for i in range(3)], training=True)
    check_batch(batch)
    assert batch["category"].tolist() == [[1, 1], [0, 0], [0, 1]]
    assert data[0]["truth"]["category"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (
            "image,label\na.png,x\n",
            {"names": ["y"]},
            "table.csv, line 2: class: expected one of y, got 'x'",
        ),
        ("image,label\na.png,\n", {"names": ["y"]}, "line 2: class: expected one of y, got ''"),
        (
            "image,label\na.png,x\na.png,x\n",
            {},
            "line 3: expected every image once, got a.png as in .*line 2",
        ),
        (
            "image,label\nd.png,x\n",
            {},
            "expected existing images, got 1 of 1 missing .first: .*d.png",
        ),
        ("image,label\n,x\n", {}, "line 2: expected a value of 'image', got an empty"),
        ("image,lable\na.png,x\n", {}, "expected a column 'label', .*; did you mean 'lable'"),
        ("image,label\na.png,x,y\n", {}, "line 2: expected 2 columns .*, got"),
        ("image,label\n", {}, "expected at least one row, got none"),
        ("image,x\na.png,2\n", {"columns": ["x"]}, "line 2: x: expected 0 or 1, got '2'"),
        ("image,x\na.png,1\n", {"columns": ["x"], "separator": "|"}, "separator, got both"),
    ],
)
def test_tables_that_cannot_be_right(
    tmp_path: Path, text: str, settings: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageTable(write_table(tmp_path, text), "table.csv", **settings)


def test_a_missing_table_names_its_neighbours(tmp_path: Path) -> None:
    write_table(tmp_path, "image,label\na.png,x\n")
    with pytest.raises(
        ValueError, match="expected an existing file, got .*tabel.csv; did you mean 'table.csv'"
    ):
        ImageTable(tmp_path, "tabel.csv")


TS = """#A comment
@problemName Tiny
@timeStamps false
@univariate {univariate}
@classLabel true down up
@data
"""


def write_ts(root: Path, name: str, rows: list[str], univariate: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    path.write_text(TS.format(univariate=str(univariate).lower()) + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def ucr(tmp_path: Path) -> Path:
    write_ts(tmp_path / "Tiny", "Tiny_TRAIN.ts", ["1,2,3:up", "3,2,1,0:down"])
    write_ts(tmp_path / "Tiny", "Tiny_TEST.ts", ["1,2,3:up", "5,2,9:up"])
    return tmp_path / "Tiny"


def test_series_of_the_archive(ucr: Path) -> None:
    data = UcrSeries(ucr, "train", {"kind": "zscore"})
    assert data.names == ["down", "up"]
    assert data.sizes.tolist() == [[3], [4]]
    sample = data[0]
    assert sample["image"].shape == (3, 1)
    assert sample["image"].mean() == pytest.approx(0, abs=1e-6)
    assert sample["image"].std() == pytest.approx(1)
    assert sample["meta"]["path"].endswith("Tiny_TRAIN.ts#0")
    batch = collate([data[0], data[1]], training=True)
    check_batch(batch)
    assert batch["image"].shape == (2, 1, 4)
    assert batch["size"].tolist() == [[3], [4]]
    described = Source(data, heads=["x"]).describe()
    assert (described["spatial_dims"], described["channels"]) == (1, 1)
    assert (described["mean"], described["std"]) == ([0.0], [1.0])
    stored = UcrSeries(ucr)
    assert stored[0]["image"].ravel().tolist() == [1, 2, 3]
    assert Source(stored, heads=["x"]).describe()["mean"] == [0.0]


def test_equal_series_in_train_and_test_are_said(
    ucr: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Source(Repeat(UcrSeries(ucr), 3), test=UcrSeries(ucr, "test"), heads=["x"])
    assert "1 training image is also in test (first: number 0 there, " in caplog.text


def test_several_channels(tmp_path: Path) -> None:
    path = write_ts(tmp_path, "a.ts", ["1,2,3:4,5,6:up"], univariate=False)
    assert read_ts(path).series[0].tolist() == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,2:ups"], "line 7: class: .* got 'ups'; did you mean 'up'"),
        (["1,?:up"], "line 7: expected numbers, none of them missing"),
        (["1,NaN:up"], "line 7: expected finite values"),
        (["1,2:3:up"], r"line 7: expected channels of one length, got lengths \[2, 1\]"),
        (["1,2:up", "1,2:3,4:up"], r"expected one number of channels, got \[1, 2\]"),
        ([], "expected series after a line @data"),
    ],
)
def test_ts_files_that_cannot_be_right(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_ts(write_ts(tmp_path, "a.ts", rows))


def test_a_split_that_is_not_there(ucr: Path) -> None:
    with pytest.raises(ValueError, match=r"split .*: expected one of test, train, got 'val'"):
        UcrSeries(ucr, "val")


def test_series_in_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    (tmp_path / "b.csv").write_text("1,2\n3,4\n5,6\n")
    (tmp_path / "c.txt").write_text("1\n2\n")
    shapes = [read_series(tmp_path / name)[0].shape for name in ("a.npy", "b.csv", "c.txt")]
    assert shapes == [(4, 1), (3, 2), (2, 1)]
    (tmp_path / "d.csv").write_text("1,x\n")
    for name, message in (
        ("d.csv", "expected a readable series"),
        ("e.wav", "expected a file of .*, got '.wav'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_series(tmp_path / name)


DNA = "EI, one, ACGN\nN, two, acgt\nEI, three, ACGN\n"


def dna(tmp_path: Path, text: str = DNA, **settings: Any) -> SequenceTable:
    (tmp_path / "x.data").write_text(text)
    return SequenceTable(tmp_path / "x.data", header=["label", "name", "sequence"], **settings)


def test_letters_become_channels_and_codes_shares(tmp_path: Path) -> None:
    data = dna(tmp_path)
    assert data.names == ["EI", "N"]
    quarter = [0.25] * 4
    assert data[0]["image"].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], quarter]
    assert data[1]["image"][3].tolist() == [0, 0, 0, 1]
    described = Source(data, heads=["x"]).describe()
    assert (described["channels"], described["mean"]) == (4, [0.0] * 4)
    assert described["letters"]["R"] == [0.5, 0, 0.5, 0]


def test_equal_sequences_stay_in_one_fold(tmp_path: Path) -> None:
    data = dna(tmp_path)
    for fold in range(2):
        parts = [Split(data, split, SplitRule(folds=2, fold=fold)) for split in ("train", "test")]
        assert sorted(len(part) for part in parts) == [1, 2]
        assert not set(parts[0].keys) & set(parts[1].keys)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("A,one,ACX\n", {}, "line 1: letter 3: .* got 'X'"),
        ("A,one,\n", {}, "line 1: expected a sequence, got an empty one"),
        ("A,one,AB\n", {"alphabet": "AA"}, "alphabet: expected each letter once, got 'AA'"),
        ("A,one,ACR\n", {"codes": {"N": "ACGT"}}, "letter 3: .* got 'R'"),
    ],
)
def test_sequences_that_cannot_be_right(
    tmp_path: Path, text: str, settings: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dna(tmp_path, text, **settings)


def test_files_of_sequences(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">one\nACG\nT\n\n>two\nGG\n")
    assert [text for _, text in read_sequences(path)] == ["ACGT", "GG"]
    path.write_text("ACG\nT\n")
    assert [text for _, text in read_sequences(path)] == ["ACG", "T"]
    path.write_text("\n")
    with pytest.raises(ValueError, match="expected sequences, got none"):
        read_sequences(path)


def test_series_are_augmented_and_cut(ucr: Path) -> None:
    sample, rng = UcrSeries(ucr)[0], np.random.default_rng(0)
    noisy = VolumeAugment({"RandGaussianNoise": {"prob": 1.0}, "RandFlip": {"prob": 1.0}})
    found = noisy(sample, rng)
    assert found["image"].shape == (3, 1)
    assert not np.array_equal(found["image"], sample["image"])
    assert found["category"] == sample["category"]
    assert Patch([2])(sample, rng)["image"].shape == (2, 1)
    with pytest.raises(ValueError, match=r"expected an image of height and width, got \(3,\)"):
        Augment({"HorizontalFlip": {}})(sample, rng)
    with pytest.raises(ValueError, match="group_by_aspect: expected images of 2 dimensions"):
        Source(UcrSeries(ucr), heads=["x"], group_by_aspect=True).train_loader()


def test_repeats_are_images_of_their_own(ucr: Path) -> None:
    data = Repeat(UcrSeries(ucr), 3)
    assert len(data) == 6
    assert data.sizes.tolist() == [[3], [4]] * 3
    assert (data[3]["index"], data[3]["meta"]["image_id"]) == (3, 1)
    with pytest.raises(ValueError, match="Repeat.times: expected at least 1, got 0"):
        Repeat(UcrSeries(ucr), 0)
