"""Names of classes and groups: one spelling for look-alikes, checks, a digest."""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

_log = logging.getLogger("densekit.data")

_EDGES = re.compile(r"^[\s\ufeff\u200b-\u200d\u2060]+|[\s\ufeff\u200b-\u200d\u2060]+$")
"""Invisible characters at the ends of a text: whitespace of any width, byte order marks."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal or the direction of a text."""
LONGEST = 255
"""Characters of a class name, which may become the name of a file."""
_BLANKS = re.compile(r"\s+")
_WHOLE = re.compile(r"(-?\d+)\.0*")


def trimmed(text: str) -> str:
    """The text without invisible characters at its ends."""
    return _EDGES.sub("", text)


def tidy(text: str) -> str:
    """The trimmed text with single spaces and in Unicode's composed form."""
    return unicodedata.normalize("NFC", _BLANKS.sub(" ", trimmed(text)))


def same_words(texts: Iterable[str]) -> list[str]:
    """Makes texts that look alike equal: trimmed, in one form of Unicode, `1.0` as `1`.

    `1.0` becomes `1` only if all texts are whole numbers, because it may also name a version.
    """
    tidied = [tidy(text) for text in texts]
    numbers = [text if text.lstrip("-").isdecimal() else _WHOLE.fullmatch(text) for text in tidied]
    if not all(number or not text for number, text in zip(numbers, tidied, strict=True)):
        return tidied
    return [
        number[1] if isinstance(number, re.Match) else text
        for number, text in zip(numbers, tidied, strict=True)
    ]


def say_lookalikes(names: Iterable[str], what: str) -> None:
    """Warns of names that differ only in capital letters or leading zeros.

    Args:
        names: Names that count as different.
        what: The file or key of the names and what they are, for the message.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        wide = unicodedata.normalize("NFKC", name)
        key = wide.lstrip("0") or "0" if wide.isdecimal() else wide.casefold()
        alike.setdefault(key, []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        _log.warning(
            "%s: %s count as different; spell them alike if they are the same%s",
            *(what, " and ".join(map(repr, groups[0])), _and_more(len(groups) - 1)),
        )


def _and_more(count: int) -> str:
    return f" (and {count} more such groups)" if count else ""


def digest(names: Iterable[str]) -> str:
    """A hash of 16 characters of names and their order, also for millions of names."""
    state = hashlib.sha256()
    for name in names:
        state.update(f"{len(name)}:{name}".encode())
    return state.hexdigest()[:16]


def check_names(names: Sequence[str], key: str) -> list[str]:
    """Checks class names and returns them as a list.

    Args:
        names: Class names in the order of their labels.
        key: The argument that gives them, for messages, e.g. `VocDetection.names`.

    Raises:
        TypeError: If it is one string, or not all are strings (YAML reads `no` as a boolean).
        ValueError: If it is empty, or a name is empty, appears twice, is too long or not printable.
    """
    if isinstance(names, str):
        raise TypeError(f"{key}: expected a list of class names, got the string {names!r}")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"{key}: expected strings (quote them in YAML), got {wrong[0]!r}")
    if "" in names:
        raise ValueError(f"{key}: expected a name for every class, got an empty one")
    if strange := [name for name in names if len(name) > LONGEST or _CONTROLS.search(name)]:
        raise ValueError(
            f"{key}: expected printable names of at most {LONGEST} characters, got"
            f" {strange[0][:100]!r}"
        )
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated or not names:
        given = f"{repeated[0]!r} twice" if repeated else "no class at all"
        raise ValueError(f"{key}: expected every class once, got {given}")
    return list(names)


def tidy_names(names: Sequence[str], key: str) -> list[str]:
    """Tidies and checks class names; returns them as a list.

    Raises:
        TypeError: As `check_names`.
        ValueError: As `check_names` for the tidied names.
    """
    wrong = isinstance(names, str) or not all(isinstance(name, str) for name in names)
    tidied = check_names(names if wrong else [tidy(name) for name in names], key)
    say_lookalikes(tidied, key)
    return tidied


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` for `json.loads` that refuses repeated names.

    Raises:
        ValueError: If a name appears twice; `json` alone would keep the last one.
    """
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected every name once, got {repeated!r} twice")
    return unique
