"""Tables and bars as the template writes them: text, number to sort by, and what stands small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from densekit.metrics.analyses import Bars, Cell, Matrix, Table

MISSING = "–"
LEVELS = 9
"""Shades of a matrix, beside none."""


@dataclass(frozen=True)
class ShownCell:
    """A cell: its text, what it is sorted by (None last), and the interval below it."""

    text: str
    value: float | None = None
    small: str = ""


@dataclass(frozen=True)
class ShownTable:
    """A table with intervals in the cells of their values.

    Attributes:
        columns: Names, and whether they hold numbers.
        rows: One cell per column each.
    """

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[ShownCell]]


@dataclass(frozen=True)
class ShownBar:
    """A value as a bar: its share of the largest one, 0 to 100, and whether it is negative."""

    name: str
    text: str
    share: float
    is_negative: bool


@dataclass(frozen=True)
class ShownCount:
    """A cell of a matrix: its text, its shade, and its share of the row as text."""

    text: str
    level: int
    share: str


def shown_table(table: Table) -> ShownTable:
    """Puts `X low` and `X high` below X, where they follow it."""
    names = list(map(str, table.columns))
    places = [place for place in range(len(names)) if not _is_end(names, place)]
    numeric = [_is_numeric([row[place] for row in table.rows]) for place in places]
    whole = {place: _is_whole([row[place] for row in table.rows]) for place in places}
    rows = [[_cell(names, row, place, whole[place]) for place in places] for row in table.rows]
    columns = [(names[place], number) for place, number in zip(places, numeric, strict=True)]
    return ShownTable(columns, rows)


def shown_bars(bars: Bars) -> list[ShownBar]:
    """Each bar by its share of the largest one."""
    most = max((abs(v) for v in bars.values.values() if isfinite(v)), default=0.0)
    return [
        ShownBar(
            str(name),
            number(value),
            round(100 * abs(value) / most, 2) if most and isfinite(value) else 0.0,
            value < 0,
        )
        for name, value in bars.values.items()
    ]


def shown_matrix(matrix: Matrix) -> list[tuple[str, list[ShownCount]]]:
    """Name and cells of each row, shaded by their share of it."""
    counts = np.nan_to_num(np.asarray(matrix.counts, dtype=np.float64))
    sums = np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    shares = counts / sums
    rows = []
    for name, row, share in zip(matrix.rows, counts.tolist(), shares.tolist(), strict=True):
        cells = [
            ShownCount(number(count), math.ceil(part * LEVELS), f"{part:.1%}")
            for count, part in zip(row, share, strict=True)
        ]
        rows.append((str(name), cells))
    return rows


def number(value: Any) -> str:
    """A number with four digits after the point, or as short as it is readable."""
    if not isfinite(value):
        return MISSING
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.2g}"


def _is_end(names: Sequence[str], place: int) -> bool:
    """Whether a column is an end of the interval of the column before it."""
    name = names[place]
    for end, back in ((" low", 1), (" high", 2)):
        if name.endswith(end) and place >= back:
            return names[place - back] == name.removesuffix(end)
    return False


def _is_numeric(cells: Sequence[Cell]) -> bool:
    return all(c is None or isinstance(c, int | float) for c in cells) and any(
        c is not None for c in cells
    )


def _is_whole(cells: Sequence[Cell]) -> bool:
    """Whether a column counts: all its numbers are whole."""
    return all(float(c).is_integer() for c in cells if isinstance(c, int | float) and isfinite(c))


def _cell(names: Sequence[str], row: Sequence[Cell], place: int, whole: bool) -> ShownCell:
    value = row[place]
    if value is None:
        return ShownCell(MISSING)
    if isinstance(value, str):
        return ShownCell(value)
    if not isfinite(value):
        return ShownCell(MISSING, small=_ends(names, row, place))
    text = number(value) if whole or abs(value) >= 2 or value not in (-1, 0, 1) else f"{value:.4f}"
    return ShownCell(text, float(value), _ends(names, row, place))


def _ends(names: Sequence[str], row: Sequence[Cell], place: int) -> str:
    """The interval of a value, if its ends are in the next two columns."""
    if not (place + 2 < len(names) and _is_end(names, place + 1) and _is_end(names, place + 2)):
        return ""
    ends = [end for end in row[place + 1 : place + 3] if isinstance(end, int | float)]
    if len(ends) < 2 or not all(map(isfinite, ends)):
        return ""
    return " to ".join(map(number, ends))
