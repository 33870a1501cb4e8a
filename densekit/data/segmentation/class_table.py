"""Files that say which classes a folder of masks has: `classes.txt` and its relatives."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densekit.data.naming import tidy_names, trimmed, unique_keys
from densekit.data.reading.tables import read_table, read_text

_log = logging.getLogger("densekit.data")

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Classes in the order of their labels.

    Attributes:
        names: One a class.
        values: The stored value of each; None if nobody said, then 0, 1, 2, ...
        colours: The colour of each, where known.
        ignore: Stored values that are void.
    """

    names: list[str]
    values: list[int] | None = None
    colours: list[Colour] | None = None
    ignore: tuple[int, ...] = ()


def find_table(folders: Iterable[Path]) -> ClassTable | None:
    """The classes by the first file of a known name in the folders, or None.

    Raises:
        ValueError: Naming the file, if it is not what its name promises.
    """
    for folder in folders:
        for name, read in _READERS.items():
            path = folder / name
            if path.is_file():
                table = read(path)
                table = replace(table, names=tidy_names(table.names, str(path)))
                check_values(table.names, table.values or (), str(path))
                _log.info("%s: classes %s", path, ", ".join(table.names))
                return table
    return None


def between(images: Path, masks: Path) -> list[Path]:
    """The folder of the masks and those above it up to the one that holds the images too."""
    images, masks = images.absolute(), masks.absolute()
    found = [masks]
    for folder in masks.parents:
        if found[-1] in (images, *images.parents):
            break
        found.append(folder)
    return found


def parse_colour(value: Any, key: str) -> Colour:
    """Three whole numbers of 0..255.

    Raises:
        ValueError: Naming the key, if it is anything else.
    """
    parts = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(parts) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in parts):
        raise ValueError(f"{key}: a colour is [red, green, blue] of 0 to 255, found {value!r}")
    return parts[0], parts[1], parts[2]


def check_values(names: Sequence[str], values: Sequence[Any], key: str) -> None:
    """Refuses stored values that are no whole numbers, or that two classes share.

    Args:
        names: Of the classes.
        values: Stored value or colour of each, or nothing.
        key: What says so, for messages.

    Raises:
        ValueError: Naming the class or the value.
    """
    for name, value in zip(names, values, strict=bool(values)):
        if type(value) not in (int, tuple):  # YAML's yes and no are numbers to Python
            raise ValueError(
                f"{key}: {name}: expected the whole number that its pixels are stored with, got"
                f" {value!r}"
            )
        if values.count(value) > 1:
            raise ValueError(f"{key}: the value {value} stands for two classes")


def _lines(path: Path) -> list[str]:
    lines = map(trimmed, read_text(path, str(path)).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read_names(path: Path) -> ClassTable:
    """One name a line."""
    return ClassTable(_lines(path))


def _read_json(path: Path) -> ClassTable:
    """A list of names, names to stored values, or `{"classes": [...], "ignore_index": 255}`."""
    text = read_text(path, str(path))
    try:
        content = json.loads(text, object_pairs_hook=unique_keys)
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    ignore: tuple[int, ...] = ()
    if isinstance(content, dict) and "classes" in content:
        ignore = (_whole(content["ignore_index"], path),) if "ignore_index" in content else ()
        content = content["classes"]
    if isinstance(content, list):
        return ClassTable(content, ignore=ignore)
    if isinstance(content, dict) and all(isinstance(v, int) for v in content.values()):
        return ClassTable(list(content), list(content.values()), ignore=ignore)
    raise ValueError(f"{path}: a list of names, or names to values, is needed")


def _read_labelmap(path: Path) -> ClassTable:
    """CVAT's `name:r,g,b:parts:actions`."""
    rows = [line.split(":") for line in _lines(path)]
    if any(len(row) < 2 for row in rows):
        raise ValueError(f"{path}: lines are name:r,g,b:parts:actions, found {rows[0]}")
    colours = [_colour_of(row[1].split(","), path) for row in rows]
    return ClassTable([row[0] for row in rows], colours=colours)


def _read_csv(path: Path) -> ClassTable:
    """Columns `name` and `r`, `g`, `b` or `value`."""
    rows = [
        {column.lower(): cell for column, cell in row.items()}
        for _, row in read_table(path, str(path), [])
    ]
    if "name" not in rows[0]:
        raise ValueError(
            f"{path}: the columns name and r, g, b or value are needed, found {sorted(rows[0])}"
        )
    names = [row["name"] for row in rows]
    if {"r", "g", "b"} <= rows[0].keys():
        return ClassTable(
            names, colours=[_colour_of([row["r"], row["g"], row["b"]], path) for row in rows]
        )
    if "value" in rows[0]:
        return ClassTable(names, [_whole(row["value"], path) for row in rows])
    return ClassTable(names)


def _colour_of(texts: Sequence[str], path: Path) -> Colour:
    return parse_colour([_whole(text, path) for text in texts], str(path))


def _whole(text: Any, path: Path) -> int:
    try:
        return int(text)
    except (ValueError, TypeError):
        raise ValueError(f"{path}: a whole number is needed, found {text!r}") from None


_READERS: Mapping[str, Callable[[Path], ClassTable]] = {
    "classes.json": _read_json,
    "classes.txt": _read_names,
    "labels.txt": _read_names,
    "labelmap.txt": _read_labelmap,
    "class_dict.csv": _read_csv,
    "classes.csv": _read_csv,
}
