"""Names of classes: texts that look alike, tables of labels, a digest."""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_log = logging.getLogger("densekit.data")

_EDGES = re.compile(r"^[\s\ufeff\u200b-\u200d\u2060]+|[\s\ufeff\u200b-\u200d\u2060]+$")
"""What nobody sees at the ends of a text: blanks of any width, marks of byte order."""
_BLANKS = re.compile(r"\s+")
_WHOLE = re.compile(r"(-?\d+)\.0*")


def trimmed(text: str) -> str:
    """The text without what nobody sees at its ends."""
    return _EDGES.sub("", text)


def tidy(text: str) -> str:
    """The text with single plain blanks, none at its ends, and accents in one form of Unicode."""
    return unicodedata.normalize("NFC", _BLANKS.sub(" ", trimmed(text)))


def same_words(texts: Iterable[str]) -> list[str]:
    """Texts that look alike, made equal: trimmed, in one form of Unicode, `1.0` as `1`.

    The last only where all are whole numbers: `1.0` may be the name of a version too.
    """
    found = [tidy(text) for text in texts]
    numbers = [text if text.lstrip("-").isdecimal() else _WHOLE.fullmatch(text) for text in found]
    if not all(number or not text for number, text in zip(numbers, found, strict=True)):
        return found
    return [
        number[1] if isinstance(number, re.Match) else text
        for number, text in zip(numbers, found, strict=True)
    ]


def say_lookalikes(names: Iterable[str], what: str) -> None:
    """Warns of names that differ in capital letters or leading zeros alone.

    Args:
        names: Names that count as different.
        what: What they are, for the message.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        wide = unicodedata.normalize("NFKC", name)
        key = wide.lstrip("0") or "0" if wide.isdecimal() else wide.casefold()
        alike.setdefault(key, []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        _log.warning(
            "%s: %s are taken as different; write them alike if they are one%s",
            *(what, " and ".join(map(repr, groups[0])), _and_more(len(groups) - 1)),
        )


def _and_more(count: int) -> str:
    return f" (and {count} more such groups)" if count else ""


def digest(names: Iterable[str]) -> str:
    """16 characters that differ where names or their order do, for names by the million."""
    found = hashlib.sha256()
    for name in names:
        found.update(f"{len(name)}:{name}".encode())
    return found.hexdigest()[:16]


def check_names(names: Sequence[str], key: str) -> list[str]:
    """The class names as a list.

    Args:
        names: Class names in the order of their labels.
        key: What to call them in an error message, e.g. `VocDetection.names`.

    Raises:
        TypeError: If it is one string, or not all are strings (YAML reads `no` as a boolean).
        ValueError: If it is empty or a name appears twice.
    """
    if isinstance(names, str):
        raise TypeError(f"{key}: expected a list of class names, got the string {names!r}")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"{key}: expected texts as names (quote them in YAML), got {wrong[0]!r}")
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated or not names:
        found = f"{repeated[0]!r} twice" if repeated else "no class at all"
        raise ValueError(f"{key}: expected every class once, got {found}")
    return list(names)


def tidy_names(names: Sequence[str], key: str) -> list[str]:
    """The class names as a list, each without what nobody sees at its ends.

    Raises:
        TypeError: As `check_names`.
        ValueError: As `check_names`, which sees the tidy names; or if one is empty.
    """
    whole = isinstance(names, str) or not all(isinstance(name, str) for name in names)
    found = check_names(names if whole else [tidy(name) for name in names], key)
    if "" in found:
        raise ValueError(f"{key}: expected a name for every class, got an empty one")
    say_lookalikes(found, key)
    return found


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The hook for `json.loads` that keeps no second entry of a name.

    Raises:
        ValueError: If a name appears twice, of which the library would keep the last.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected every name once, got {twice!r} twice")
    return found
