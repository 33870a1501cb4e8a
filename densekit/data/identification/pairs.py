"""Reads lists of image pairs for verification.

P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from densekit._reading import LONGEST
from densekit.data.reading.tables import check_filled, read_table, read_text

FOLDS = 10
"""Number of folds that pairs without a fold are distributed over."""
SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}

Line = tuple[str, list[str]]
"""`FILE, line 7` and the words of that line."""


class Pair(NamedTuple):
    """Two images, or templates, by name.

    Attributes:
        first: Path below the data's root, or number of a template.
        second: The same for the second image.
        same: Whether they show the same identity.
        fold: Fold of the cross-validation.
    """

    first: str
    second: str
    same: bool
    fold: int


def read_pairs(path: Path, file_name: str = "{name}/{name}_{number:04d}.jpg") -> list[Pair]:
    """Reads the pairs of a file, in its order.

    The format is recognised from the content:

    - a CSV table with the columns `first`, `second`, `same` (1 or 0) and optionally `fold`;
    - LFW's `pairs.txt`: a line `FOLDS PAIRS`, then for each fold PAIRS lines `NAME I J` and PAIRS
      lines `NAME I OTHER J`;
    - lines `FOLD SAME NAME I OTHER J`, with comments after `#`.

    Args:
        path: The file.
        file_name: Path of image `number` of the identity `name`, for the last two formats.

    Raises:
        ValueError: Naming file and line, if the file has none of these formats.
    """
    if path.suffix.lower() == ".csv":
        return _table(path)
    text = read_text(path, "pairs")
    words = [line.partition("#")[0].split() for line in text.splitlines()]
    lines = [(f"{path}, line {number}", line) for number, line in enumerate(words, 1) if line]
    if not lines:
        raise ValueError(f"{path}: expected pairs, got none")
    if len(lines[0][1]) == 6:
        return _columns(lines, file_name)
    return _lfw(path, lines, file_name)


def _table(path: Path) -> list[Pair]:
    needed = ["first", "second", "same"]
    rows = read_table(path, "pairs", needed)
    check_filled(rows, needed)
    pairs, seen = [], {True: 0, False: 0}
    for where, row in rows:
        same = _is_same(row["same"], where)
        fold = _number(row["fold"], where) if "fold" in row else seen[same] % FOLDS
        seen[same] += 1
        pairs.append(Pair(row["first"], row["second"], same, fold))
    return pairs


def _columns(lines: Sequence[Line], file_name: str) -> list[Pair]:
    pairs = []
    for where, words in lines:
        if len(words) != 6:
            raise ValueError(f"{where}: expected FOLD SAME NAME I OTHER J, got {' '.join(words)!r}")
        first, second = (_file(file_name, words[at], words[at + 1], where) for at in (2, 4))
        same = _is_same(words[1], where)
        pairs.append(Pair(first, second, same, _number(words[0], where)))
    return pairs


def _lfw(path: Path, lines: Sequence[Line], file_name: str) -> list[Pair]:
    (first_line, head), *rest = lines
    if len(head) > 2:
        raise ValueError(
            f"{first_line}: expected FOLDS PAIRS (LFW), six columns, or a .csv file with a header,"
            f" got {' '.join(head)!r}"
        )
    numbers = [_number(word, first_line) for word in head]
    folds, half = numbers if len(numbers) == 2 else (1, numbers[0])
    if len(rest) != 2 * folds * half:
        raise ValueError(
            f"{path}: expected {folds} folds of {half} + {half} pairs, got {len(rest)} pairs"
        )
    pairs = []
    for number, (where, words) in enumerate(rest):
        same = number % (2 * half) < half
        if len(words) != (3 if same else 4):
            form = "NAME I J" if same else "NAME I OTHER J"
            raise ValueError(f"{where}: expected {form}, got {' '.join(words)!r}")
        other = words[0] if same else words[2]
        first = _file(file_name, words[0], words[1], where)
        second = _file(file_name, other, words[-1], where)
        pairs.append(Pair(first, second, same, number // (2 * half)))
    return pairs


def _file(pattern: str, name: str, number: str, where: str) -> str:
    try:
        return pattern.format(name=name, number=_number(number, where))
    except (KeyError, IndexError) as error:
        raise ValueError(
            "file_name: expected {name} and {number} only, as in {name}/{number:04d}.png, got"
            f" {pattern!r}"
        ) from error


def _is_same(word: str, where: str) -> bool:
    if word.lower() not in SAME:
        raise ValueError(f"{where}: same: expected 1 or 0, got {word!r}")
    return SAME[word.lower()]


def _number(word: str, where: str) -> int:
    if not word.isdecimal() or len(word) > LONGEST:
        raise ValueError(f"{where}: expected a whole number, got {word!r}")
    return int(word)
