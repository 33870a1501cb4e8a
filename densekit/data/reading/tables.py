"""Reads CSV and TSV tables: rows by column name, with their line numbers for messages.

N rows.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from densekit._names import nearest, unknown
from densekit._reading import check_regular
from densekit.data.naming import same_words, say_lookalikes, trimmed

_BEYOND = 1 << 63
"""The smallest positive integer that does not fit in a signed 64-bit one."""

Row = tuple[str, dict[str, str]]
"""`FILE, line 7` and the cells by column, stripped of surrounding whitespace of any kind."""


def read_text(path: Path, key: str) -> str:
    """Reads a text file, without its byte order mark.

    Args:
        path: The file.
        key: The argument that named it, for messages.

    Raises:
        ValueError: If the file cannot be read or is not UTF-8.
    """
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        beside = [entry.name for entry in path.parent.glob("*") if entry.is_file()]
        hint = nearest(path.name, beside)
        raise ValueError(f"{key}: expected an existing file, got {path}{hint}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text file in UTF-8, got {error}") from error


def read_table(
    path: Path, key: str, columns: Sequence[str], header: Sequence[str] | None = None
) -> list[Row]:
    """Reads a table whose columns are separated as `delimiter_of` says.

    Args:
        path: The file.
        key: The argument that named it, for messages.
        columns: Columns that must exist.
        header: Column names of a file without a header line.

    Raises:
        ValueError: If there is no such file, column or row, or a row has more or fewer cells than
            the header.
    """
    text = read_text(path, key)
    lines = csv.reader(text.splitlines(), delimiter=delimiter_of(path, text))
    rows = [(lines.line_num, [trimmed(cell) for cell in cells]) for cells in lines]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    names = list(header) if header is not None else (rows.pop(0)[1] if rows else [])
    for column in columns:
        if column not in names:
            raise ValueError(missing_column(path, column, names))
    if repeated := [name for name in names if name and names.count(name) > 1]:
        raise ValueError(f"{path}: expected every column once, got {repeated[0]!r} twice")
    if not rows:
        raise ValueError(f"{path}: expected at least one row, got none")
    located = []
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) != len(names):
            expected = f"{len(names)} columns ({', '.join(names)})"
            raise ValueError(f"{where}: expected {expected}, got {cells}")
        located.append((where, dict(zip(names, cells, strict=True))))
    return located


def delimiter_of(path: Path, text: str) -> str:
    """The sign between the columns: a tab in a `.tsv` file, else a comma or a semicolon.

    Spreadsheets write semicolons where the comma is the decimal sign.

    Args:
        path: The file.
        text: Its content; the first line tells.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = text.partition("\n")[0]
    return ";" if ";" in first and "," not in first else ","


def missing_column(path: Path, column: str, header: Sequence[str]) -> str:
    """The message for a column that a table lacks."""
    there = ", ".join(header) or "no columns"
    return f"{path}: expected a column {column!r}, got {there}{nearest(column, header)}"


def names_in_column(rows: Sequence[Row], column: str) -> list[str]:
    """The names in a column in one spelling each; warns of names that may be the same.

    Args:
        rows: Rows of a table.
        column: A column of classes, identities or groups, not of files.
    """
    found = same_words(row[column] for _, row in rows)
    where = rows[0][0].rpartition(", line")[0] if rows else ""
    say_lookalikes(found, f"{where}: {column}")
    return found


def check_filled(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Refuses empty cells.

    Raises:
        ValueError: If a cell of the columns is empty, with its line.
    """
    for where, row in rows:
        for column in columns:
            if not row[column]:
                raise ValueError(f"{where}: expected a value of {column!r}, got an empty cell")


def indices_of_split(rows: Sequence[Row], split: str | None, key: str) -> list[int]:
    """Positions of the rows that the column `split` assigns to a split; of all rows for None.

    Args:
        rows: Rows of a table.
        split: Name of the split.
        key: The argument that named it, for the message.

    Raises:
        ValueError: If no row belongs to the split.
    """
    if split is None:
        return list(range(len(rows)))
    splits = names_in_column(rows, "split")
    kept = [position for position, name in enumerate(splits) if name == split]
    if not kept:
        raise ValueError(unknown(key, split, sorted(set(splits))))
    return kept


def numbers(rows: Sequence[Row], columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, columns) float64 finite numbers.

    Raises:
        ValueError: If a column is missing or a cell is not a finite number, with its line.
    """
    return np.asarray([[_number(*row, column) for column in columns] for row in rows])


def whole_numbers(rows: Sequence[Row], column: str) -> NDArray[np.int64]:
    """(N,) int64 numbers of a column.

    Raises:
        ValueError: If a cell is missing or not a whole number of 64 bits, with its line.
    """
    return np.asarray([_whole_number(*row, column) for row in rows], dtype=np.int64)


def _whole_number(where: str, row: dict[str, str], column: str) -> int:
    cell = row.get(column, "no such column")
    try:
        number = int(same_words([cell])[0])  # spreadsheets write 1 as 1.0
    except ValueError:
        number = _BEYOND
    if not -_BEYOND <= number < _BEYOND:
        raise ValueError(f"{where}: {column}: expected a whole number, got {cell!r}")
    return number


def _number(where: str, row: dict[str, str], column: str) -> float:
    cell = row.get(column, "no such column")
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {column}: expected a finite number, got {cell!r}")
    return number
