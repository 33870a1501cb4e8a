"""Tables in text files: rows by column name, with the line that each stands in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from densekit.data.naming import nearest

Row = tuple[str, dict[str, str]]
"""`FILE, line 7` and the cells by column, without blanks around them."""


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        beside = [entry.name for entry in path.parent.glob("*") if entry.is_file()]
        raise ValueError(f"{key}: no file {path}; {nearest(path.name, beside)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file: {error}") from error
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    lines = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [(number, [cell.strip() for cell in cells]) for number, cells in enumerate(lines, 1)]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    names = list(header) if header is not None else (rows.pop(0)[1] if rows else [])
    for column in columns:
        if column not in names:
            raise ValueError(f"{path}: no column {column!r}; {nearest(column, names)}")
    if not rows:
        raise ValueError(f"{path}: no row in it")
    found = []
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) != len(names):
            raise ValueError(f"{where}: {len(names)} columns ({', '.join(names)}), found {cells}")
        found.append((where, dict(zip(names, cells, strict=True))))
    return found
