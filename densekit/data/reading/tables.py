"""Tables in text files: rows by column name, with the line that each stands in.

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
from densekit.data.naming import same_words, say_lookalikes, trimmed

_BEYOND = 1 << 63
"""The least whole number that has no place in 64 bits."""

Row = tuple[str, dict[str, str]]
"""`FILE, line 7` and the cells by column, without blanks of any kind around them."""


def read_text(path: Path, key: str) -> str:
    """A text file's content, without a mark of byte order.

    Args:
        path: The file.
        key: The argument that named it, for messages.

    Raises:
        ValueError: If there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        beside = [entry.name for entry in path.parent.glob("*") if entry.is_file()]
        raise ValueError(f"{key}: no file {path}{nearest(path.name, beside)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text file in UTF-8, got {error}") from error


def read_table(
    path: Path, key: str, columns: Sequence[str], header: Sequence[str] | None = None
) -> list[Row]:
    """The rows of a table with commas, or with tabs in a `.tsv`.

    Args:
        path: The file.
        key: The argument that named it, for messages.
        columns: Columns that must be there.
        header: Names of the columns where the file has no line of them.

    Raises:
        ValueError: If there is no such file, column or row, or a row has other than the header's
            number of cells.
    """
    text = read_text(path, key)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    lines = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [(lines.line_num, [trimmed(cell) for cell in cells]) for cells in lines]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    names = list(header) if header is not None else (rows.pop(0)[1] if rows else [])
    for column in columns:
        if column not in names:
            raise ValueError(missing_column(path, column, names))
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ValueError(f"{path}: expected every column once, got {twice[0]!r} twice")
    if not rows:
        raise ValueError(f"{path}: no row in it")
    found = []
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) != len(names):
            raise ValueError(f"{where}: {len(names)} columns ({', '.join(names)}), found {cells}")
        found.append((where, dict(zip(names, cells, strict=True))))
    return found


def missing_column(path: Path, column: str, header: Sequence[str]) -> str:
    """The message for a column that a table lacks."""
    there = ", ".join(header) or "no columns"
    return f"{path}: expected a column {column!r}, got {there}{nearest(column, header)}"


def words(rows: Sequence[Row], column: str) -> list[str]:
    """The names that a column has; those that look alike are equal, others that might be are said.

    Args:
        rows: Those of a table.
        column: Of classes, identities or groups; not of files.
    """
    found = same_words(row[column] for _, row in rows)
    where = rows[0][0].rpartition(", line")[0] if rows else ""
    say_lookalikes(found, f"{where}: {column}")
    return found


def check_filled(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Finds empty cells.

    Raises:
        ValueError: If a cell of the columns is empty, with the line.
    """
    for where, row in rows:
        for column in columns:
            if not row[column]:
                raise ValueError(f"{where}: the cell of {column!r} is empty")


def places_of_split(rows: Sequence[Row], split: str | None, key: str) -> list[int]:
    """Places of the rows in whose column `split` this stands; of all rows for None.

    Args:
        rows: Those of a table.
        split: What is looked for.
        key: The argument that named it, for the message.

    Raises:
        ValueError: If it stands in no row.
    """
    if split is None:
        return list(range(len(rows)))
    found = words(rows, "split")
    kept = [place for place, word in enumerate(found) if word == split]
    if not kept:
        there = sorted(set(found))
        raise ValueError(unknown(key, split, there))
    return kept


def numbers(rows: Sequence[Row], columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, columns) finite numbers.

    Raises:
        ValueError: If a column or a number is missing, with the line.
    """
    return np.asarray([[_number(*row, column) for column in columns] for row in rows])


def whole_numbers(rows: Sequence[Row], column: str) -> NDArray[np.int64]:
    """(N,) numbers without a fraction.

    Raises:
        ValueError: If one is missing or no whole number of 64 bits, with the line.
    """
    return np.asarray([_whole_number(*row, column) for row in rows], dtype=np.int64)


def _whole_number(where: str, row: dict[str, str], column: str) -> int:
    found = row.get(column, "no such column")
    try:
        number = int(same_words([found])[0])  # 1.0 of a spreadsheet is 1
    except ValueError:
        number = _BEYOND
    if not -_BEYOND <= number < _BEYOND:
        raise ValueError(f"{where}: {column}: a whole number is needed, found {found!r}")
    return number


def _number(where: str, row: dict[str, str], column: str) -> float:
    found = row.get(column, "no such column")
    try:
        number = float(found)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {column}: a number is needed, found {found!r}")
    return number
