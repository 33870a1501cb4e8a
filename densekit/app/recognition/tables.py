"""Recognises tables: images with their class, sequences with their class."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from densekit.app.recognition.found import WHOLE, Found, below, node
from densekit.app.recognition.tree import SPLIT_WORDS, Tree, likeness
from densekit.data.naming import trimmed
from densekit.data.reading.files import same_name
from densekit.data.reading.tables import delimiter_of, read_text

SUFFIXES = (".csv", ".tsv", ".data")
_ROWS = 200
"""Rows that are looked at to recognise the columns."""
_LETTERS = re.compile(r"[ACGTUNDSRYKMWBHV]{10,}", re.IGNORECASE)
_LABELS = ("label", "class", "category", "target", "diagnosis", "species", "y")

Rows = Sequence[Sequence[str]]


def recognise(tree: Tree) -> list[Found]:
    """A table of images or of sequences."""
    found = []
    for file in _tables(tree):
        rows = _rows(tree, file)
        if len(rows) > 1:
            found += [*_images(tree, file, rows), *_sequences(tree, file, rows)]
    return found[:1]


def unreadable(tree: Tree) -> str:
    """Why a table cannot be read, "" if all can."""
    for file in _tables(tree):
        try:
            read_text(tree.root / file, file)
        except ValueError as error:
            return str(error)
    return ""


def _tables(tree: Tree) -> list[str]:
    return [file for file in tree.named(*SUFFIXES) if file.count("/") <= 1]


def _rows(tree: Tree, file: str) -> Rows:
    try:
        text = read_text(tree.root / file, file)
    except ValueError:
        return []
    delimiter = delimiter_of(Path(file), text)
    lines = csv.reader(text.splitlines()[: _ROWS + 1], delimiter=delimiter)
    rows = [[trimmed(cell) for cell in cells] for cells in lines]
    width = max(map(len, rows), default=0)
    return [row for row in rows if len(row) == width > 1]


def _images(tree: Tree, file: str, rows: Rows) -> list[Found]:
    header, body = list(rows[0]), rows[1:]
    place = _place(tree, file, header, body)
    if place is None:
        return []
    folder, image = place
    others = [n for n in range(len(header)) if header[n] != image]
    how = _labels(header, others, body)
    if how is None:
        return []
    table = os.path.relpath(file, folder or ".")
    column = None if image == "image" else image
    whole = node("ImageTable", root=below(folder), table=table, image=column, **how)
    splits = {WHOLE: whole}
    values = {row[header.index("split")] for row in body} if "split" in header else set()
    named = {SPLIT_WORDS[v.lower()]: v for v in sorted(values) if v.lower() in SPLIT_WORDS}
    if "train" in named:
        splits = {split: {**whole, "split": value} for split, value in named.items()}
    text = f"a table of images with classes: {file}"
    return [Found("table", text, "classes", tree.root, splits)]


def _place(tree: Tree, file: str, header: Sequence[str], body: Rows) -> tuple[str, str] | None:
    """The folder that the files of a column are in, and the name of the column."""
    folders = dict.fromkeys(["", *tree.image_folders])
    for folder in sorted(folders, key=lambda folder: likeness(folder, file), reverse=True):
        start = f"{folder}/" if folder else ""
        for n, name in enumerate(header):
            if all(same_name(start + row[n]) in tree.known for row in body):
                return folder, name
    return None


def _labels(header: Sequence[str], columns: Sequence[int], body: Rows) -> dict[str, Any] | None:
    """The arguments that say where the classes are; None if no column can hold any."""
    named = [n for n in columns if header[n].lower() in _LABELS]
    flags = [n for n in columns if {row[n] for row in body} <= {"0", "1"}]
    if not named and len(flags) > 1:
        return {"columns": [header[n] for n in flags]}
    others = named or [n for n in columns if header[n] != "split" and _few(row[n] for row in body)]
    if not others:
        return None
    label = others[0]
    separator = "|" if any("|" in row[label] for row in body) else None
    return {"label": None if header[label] == "label" else header[label], "separator": separator}


def _few(cells: Iterable[str]) -> bool:
    """Whether values repeat, as classes do and names do not."""
    values = list(cells)
    return len(set(values)) <= max(2, len(values) // 2)


def _sequences(tree: Tree, file: str, rows: Rows) -> list[Found]:
    """A column of nucleotides and one of classes; the first column without a header line."""
    body = rows[1:]
    columns = range(len(rows[0]))
    found = [n for n in columns if all(_LETTERS.fullmatch(row[n]) for row in body)]
    if len(found) != 1:
        return []
    (place,) = found
    header = None
    if _LETTERS.fullmatch(rows[0][place]):  # no header line
        classes = min((n for n in columns if n != place), key=lambda n: len({r[n] for r in rows}))
        known = {place: "sequence", classes: "label"}
        header = [known.get(n, f"column_{n + 1}") for n in columns]
        label, sequence = None, None
    else:
        names = list(rows[0])
        label = next((name for name in names if name.lower() in _LABELS), None)
        if label is None:
            return []
        sequence = None if names[place] == "sequence" else names[place]
        label = None if label == "label" else label
    table = below(file)
    whole = node("SequenceTable", table=table, header=header, label=label, sequence=sequence)
    text = f"a table of DNA sequences with classes: {file}"
    return [Found("sequences", text, "sequences", tree.root, {WHOLE: whole})]
