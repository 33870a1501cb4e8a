"""Lists of pairs that verification compares.

P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from densekit.data.identities import read_rows

FOLDS = 10
"""Into which pairs without folds are dealt."""
SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}


class Pair(NamedTuple):
    """Two images, or templates, by name.

    Attributes:
        first: Path below the data's root, or number of a template.
        second: Likewise.
        same: Whether they are of one identity.
        fold: Part of the cross-validation.
    """

    first: str
    second: str
    same: bool
    fold: int


def read_pairs(path: Path, file_name: str = "{name}/{name}_{number:04d}.jpg") -> list[Pair]:
    """The pairs of a file, in its order.

    Three formats are told apart by what is in the file:

    - a CSV table with the columns `first`, `second`, `same` (1 or 0) and perhaps `fold`;
    - LFW's `pairs.txt`: a line `FOLDS PAIRS`, then for each fold so many lines `NAME I J` and as
      many `NAME I OTHER J`;
    - lines `FOLD SAME NAME I OTHER J`, comments behind `#`.

    Args:
        path: The file.
        file_name: Path of image `number` of the identity `name`, for the last two.

    Raises:
        ValueError: Naming file and line, if it is none of them.
    """
    if path.suffix.lower() == ".csv":
        return _table(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"pairs: no file {path}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file: {error}") from error
    lines = {n: line.partition("#")[0].split() for n, line in enumerate(text.splitlines(), 1)}
    lines = {number: words for number, words in lines.items() if words}
    if not lines:
        raise ValueError(f"{path}: no pair in it")
    first = next(iter(lines.values()))
    return (_columns if len(first) == 6 else _lfw)(path, lines, file_name)


def _table(path: Path) -> list[Pair]:
    rows = read_rows(path, ["first", "second", "same"])
    known = "fold" in next(iter(rows.values()))
    pairs, seen = [], {True: 0, False: 0}
    for line, row in rows.items():
        same = _is_same(row["same"], path, line)
        fold = _number(row["fold"], path, line) if known else seen[same] % FOLDS
        seen[same] += 1
        pairs.append(Pair(row["first"], row["second"], same, fold))
    return pairs


def _columns(path: Path, lines: Mapping[int, list[str]], file_name: str) -> list[Pair]:
    pairs = []
    for line, words in lines.items():
        if len(words) != 6:
            raise ValueError(
                f"{path}, line {line}: FOLD SAME NAME I OTHER J is needed, found"
                f" {' '.join(words)!r}"
            )
        first, second = (_file(file_name, words[at], words[at + 1], path, line) for at in (2, 4))
        same = _is_same(words[1], path, line)
        pairs.append(Pair(first, second, same, _number(words[0], path, line)))
    return pairs


def _lfw(path: Path, lines: Mapping[int, list[str]], file_name: str) -> list[Pair]:
    (head_line, head), *rest = lines.items()
    if len(head) > 2:
        raise ValueError(
            f"{path}, line {head_line}: FOLDS PAIRS (LFW), six columns, or a .csv file with a"
            f" header are accepted, found {' '.join(head)!r}"
        )
    numbers = [_number(word, path, head_line) for word in head]
    folds, of_kind = numbers if len(numbers) == 2 else (1, numbers[0])
    if len(rest) != 2 * folds * of_kind:
        raise ValueError(
            f"{path}: {folds} folds of {of_kind} + {of_kind} pairs are promised, found {len(rest)}"
        )
    pairs = []
    for place, (line, words) in enumerate(rest):
        same = place % (2 * of_kind) < of_kind
        if len(words) != (3 if same else 4):
            accepted = "NAME I J" if same else "NAME I OTHER J"
            raise ValueError(
                f"{path}, line {line}: {accepted} is needed, found {' '.join(words)!r}"
            )
        other = words[0] if same else words[2]
        first = _file(file_name, words[0], words[1], path, line)
        second = _file(file_name, other, words[-1], path, line)
        pairs.append(Pair(first, second, same, place // (2 * of_kind)))
    return pairs


def _file(pattern: str, name: str, number: str, path: Path, line: int) -> str:
    try:
        return pattern.format(name=name, number=_number(number, path, line))
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"file_name: {pattern!r}: accepted are {{name}} and {{number}}, as in"
            " {name}/{number:04d}.png"
        ) from error


def _is_same(word: str, path: Path, line: int) -> bool:
    if word.lower() not in SAME:
        raise ValueError(f"{path}, line {line}: same: accepted are 1 and 0, found {word!r}")
    return SAME[word.lower()]


def _number(word: str, path: Path, line: int) -> int:
    if not word.isdecimal():
        raise ValueError(f"{path}, line {line}: a whole number is needed, found {word!r}")
    return int(word)
