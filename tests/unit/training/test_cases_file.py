"""The table of every image's own figures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from densekit.training import CasesFile
from densekit.training.cases_file import table
from tests.unit.training.fakes import FakeData, FakeHead, FakeMetric, fake_lit, trainer


def test_a_row_an_image_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"image_id": 0, "dice": 0.5}, {"image_id": 1, "dice": math.nan}]
    kind = type("WithCases", (FakeMetric,), {"cases": lambda _: rows})
    monkeypatch.setattr(FakeHead, "make_metrics", lambda *_: {"fake": kind([])})
    run, lit = trainer(tmp_path, callbacks=[CasesFile(tmp_path)], max_epochs=1), fake_lit()
    run.test(lit, datamodule=FakeData(), verbose=False)
    with (tmp_path / "cases_test.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["image_id"] for row in found] == ["0", "1"]
    assert [row["dice"] for row in found] == ["0.5", ""]
    assert {row["head"] for row in found} == {"spot"}
    assert all(row["path"] for row in found), found


def test_no_file_without_such_a_metric(tmp_path: Path) -> None:
    run, lit = trainer(tmp_path, callbacks=[CasesFile(tmp_path)], max_epochs=1), fake_lit()
    run.test(lit, datamodule=FakeData(), verbose=False)
    assert list(tmp_path.glob("*.csv")) == []


def test_columns_are_those_of_all_rows() -> None:
    assert table([{"image_id": 3, "a": 1.0}, {"image_id": 4, "b": 2 / 3}]) == [
        ["data", "head", "image_id", "path", "a", "b"],
        [None, None, 3, None, "1", None],
        [None, None, 4, None, None, "0.666667"],
    ]
