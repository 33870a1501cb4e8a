"""Files that list the classes of a folder of masks: `classes.txt`, `labelmap.txt` and others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densekit._reading import parse_json
from densekit.data.naming import tidy_names, trimmed, unique_keys
from densekit.data.reading.tables import read_table, read_text

_log = logging.getLogger("densekit.data")

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Classes in the order of their labels.

    Attributes:
        names: Class names.
        values: The stored value of each class; None means 0, 1, 2, ...
        colours: The colour of each class, if known.
        ignore: Stored values that are void.
    """

    names: list[str]
    values: list[int] | None = None
    colours: list[Colour] | None = None
    ignore: tuple[int, ...] = ()


def find_table(folders: Iterable[Path]) -> ClassTable | None:
    """Reads the first class file (`classes.json`, ...) found in the folders; None without one.

    Raises:
        ValueError: Naming the file, if it is not in the format of its name.
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


def class_file_folders(images: Path, masks: Path) -> list[Path]:
    """The folder of the masks and its parents, up to the first that also contains the images."""
    images, masks = images.absolute(), masks.absolute()
    found = [masks]
    for folder in masks.parents:
        if found[-1] in (images, *images.parents):
            break
        found.append(folder)
    return found


def parse_colour(value: Any, key: str) -> Colour:
    """The colour as three integers of 0..255.

    Raises:
        ValueError: Naming the key, if the value is not a colour.
    """
    parts = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(parts) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in parts):
        raise ValueError(f"{key}: expected a colour [red, green, blue] of 0 to 255, got {value!r}")
    return parts[0], parts[1], parts[2]


def check_values(names: Sequence[str], values: Sequence[Any], key: str) -> None:
    """Checks that stored values are integers and that no two classes share one.

    Args:
        names: Class names.
        values: Stored value or colour of each class, or empty.
        key: The configuration key or the file, for messages.

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
            raise ValueError(f"{key}: expected a different value per class, got {value} twice")


def _lines(path: Path) -> list[str]:
    lines = map(trimmed, read_text(path, str(path)).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read_names(path: Path) -> ClassTable:
    """Reads one class name per line."""
    return ClassTable(_lines(path))


def _read_json(path: Path) -> ClassTable:
    """Reads a list of names, names to values, or `{"classes": [...], "ignore_index": 255}`."""
    text = read_text(path, str(path))
    content = parse_json(text, path, unique_keys)
    ignore: tuple[int, ...] = ()
    if isinstance(content, dict) and "classes" in content:
        ignore = (_integer(content["ignore_index"], path),) if "ignore_index" in content else ()
        content = content["classes"]
    if isinstance(content, list):
        return ClassTable(content, ignore=ignore)
    if isinstance(content, dict) and all(isinstance(v, int) for v in content.values()):
        return ClassTable(list(content), list(content.values()), ignore=ignore)
    raise ValueError(
        f"{path}: expected a list of names, or names to stored values, got {content!r:.80}"
    )


def _read_labelmap(path: Path) -> ClassTable:
    """Reads CVAT's lines `name:r,g,b:parts:actions`."""
    rows = [line.split(":") for line in _lines(path)]
    if wrong := [row for row in rows if len(row) < 2]:
        raise ValueError(f"{path}: expected lines name:r,g,b:parts:actions, got {wrong[0]}")
    colours = [_colour_of(row[1].split(","), path) for row in rows]
    return ClassTable([row[0] for row in rows], colours=colours)


def _read_csv(path: Path) -> ClassTable:
    """Reads a table with the columns `name` and `r`, `g`, `b` or `value`."""
    rows = [
        {column.lower(): cell for column, cell in row.items()}
        for _, row in read_table(path, str(path), [])
    ]
    if "name" not in rows[0]:
        raise ValueError(
            f"{path}: expected the columns name and r, g, b or value, got {sorted(rows[0])}"
        )
    names = [row["name"] for row in rows]
    if {"r", "g", "b"} <= rows[0].keys():
        return ClassTable(
            names, colours=[_colour_of([row["r"], row["g"], row["b"]], path) for row in rows]
        )
    if "value" in rows[0]:
        return ClassTable(names, [_integer(row["value"], path) for row in rows])
    return ClassTable(names)


def _colour_of(texts: Sequence[str], path: Path) -> Colour:
    return parse_colour([_integer(text, path) for text in texts], str(path))


def _integer(text: Any, path: Path) -> int:
    try:
        return int(text)
    except (ValueError, TypeError):
        raise ValueError(f"{path}: expected a whole number, got {text!r}") from None


_READERS: Mapping[str, Callable[[Path], ClassTable]] = {
    "classes.json": _read_json,
    "classes.txt": _read_names,
    "labels.txt": _read_names,
    "labelmap.txt": _read_labelmap,
    "class_dict.csv": _read_csv,
    "classes.csv": _read_csv,
}
