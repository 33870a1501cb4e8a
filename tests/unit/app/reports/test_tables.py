"""Cells of a table: numbers as they are read, intervals below their values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densekit.app.reports.tables import number, shown_bars, shown_matrix, shown_table
from densekit.metrics.analyses import Bars, Matrix, Table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((3, "3"), (12345, "12,345"), (0.5, "0.5000"), (2.0, "2"), (1234.56, "1,234.6")),
        *((1e-5, "1e-05"), (-0.25, "-0.2500"), (math.nan, "–"), (math.inf, "–")),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_intervals_stand_below_their_value() -> None:
    columns = ["class", "AP", "AP low", "AP high", "low", "n"]
    rows = [["cat", 0.5, 0.4, 0.6, 1.0, 3.0], ["dog", math.nan, None, None, None, 0.0]]
    shown = shown_table(Table("t", columns, rows))
    assert shown.columns == [("class", False), ("AP", True), ("low", True), ("n", True)]
    first, second = shown.rows
    assert [cell.text for cell in first] == ["cat", "0.5000", "1", "3"]
    assert first[1].small == "0.4000 to 0.6000"
    assert [cell.text for cell in second] == ["dog", "–", "–", "0"]
    assert second[1].value is None


def test_a_share_of_one_among_shares() -> None:
    shown = shown_table(Table("t", ["a", "AP"], [["x", 1.0], ["y", 0.25]]))
    assert [row[1].text for row in shown.rows] == ["1.0000", "0.2500"]


def test_bars() -> None:
    shown = shown_bars(Bars("b", "y", {"a": 4.0, "b": -1.0, "c": math.nan}))
    assert [bar.share for bar in shown] == [100, 25, 0]
    assert [bar.is_negative for bar in shown] == [False, True, False]


def test_matrix_is_shaded_by_row() -> None:
    (name, cells), (_, empty) = shown_matrix(
        Matrix("m", ["a", "b"], ["a", "b"], np.array([[9.0, 1.0], [0.0, math.nan]]))
    )
    assert name == "a"
    assert [(cell.text, cell.level, cell.share) for cell in cells] == [
        ("9", 9, "90.0%"),
        ("1", 1, "10.0%"),
    ]
    assert [cell.level for cell in empty] == [0, 0]
