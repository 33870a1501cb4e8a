"""Helpers for messages: unknown names with the nearest accepted one, counts, paths."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")
LISTED = 20
"""Most accepted names that a message lists."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor, colours or reorders the text of a terminal; not line ends and tabs."""
_ENDLESS = re.compile(r"\S{2000,}")


def choose(key: str, name: str, table: Mapping[str, Value]) -> Value:
    """Returns `table[name]`.

    Args:
        key: Key that the user set, for the error, e.g. "norm".
        name: Value that the user set.
        table: Accepted names and their values.

    Raises:
        ValueError: The name is unknown; the message lists the accepted ones and the nearest.
    """
    if name not in table:
        raise ValueError(unknown(key, name, table))
    return table[name]


def check_keys(key: str, given: Iterable[str], accepted: Iterable[str]) -> None:
    """Refuses unknown keys, such as arguments of a class or entries of a mapping.

    Args:
        key: Their parent, e.g. "Augment.steps.Blur".
        given: The keys below it.
        accepted: The known names.

    Raises:
        ValueError: A key is unknown; the message names the first one and the nearest known name.
    """
    accepted = list(accepted)
    for name in given:
        if name not in accepted:
            raise ValueError(unknown(f"{key}.{name}", name, accepted))


def unknown(key: str, name: object, accepted: Iterable[str]) -> str:
    """Returns the message for a name that is not accepted; it lists at most 20 accepted ones.

    Args:
        key: Key or file with the name.
        name: The unknown name.
        accepted: The accepted names.
    """
    names = list(accepted)
    listed = ", ".join(names[:LISTED]) + (f", ... ({len(names)} in all)" if names[LISTED:] else "")
    expected = f"one of {listed}" if names else "nothing"
    return f"{key}: expected {expected}, got {name!r}{nearest(name, names)}"


def nearest(name: object, accepted: Iterable[str]) -> str:
    """Returns `; did you mean X?` for the end of a message, empty if no accepted name is close."""
    folded = {option.casefold(): option for option in accepted}
    close = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Returns a number with its noun: `1 image`, `2 images`; `2 boxes` with the given plural."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def readable(path: object) -> str:
    r"""Returns a path as printable text: bytes that are not UTF-8 become `\xe9`."""
    try:
        return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair that is no byte, such as JSON may hold
        return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def is_file_name(name: str, most: int = 255) -> bool:
    """Whether a text can be the name of one file or folder, and be printed.

    Args:
        name: The text.
        most: Its longest length in bytes.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    odd = name in (".", "..") or _CONTROLS.search(name) or any(mark in name for mark in "/\\\n\t")
    return 0 < len(encoded) <= most and not odd


def visible(text: str) -> str:
    """Returns text for a terminal: control characters as escapes, words without end cut."""
    shown = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", readable(text))
    return _ENDLESS.sub(lambda found: f"{found[0][:100]}...", shown)


def foreground(head: Mapping[str, Any]) -> dict[int, str]:
    """Returns mask value (multi-label: channel) to name, for every class but the background.

    Args:
        head: `info["heads"][HEAD]` of a model, or the description of a data set with masks.
    """
    names = list(head["names"])
    if head.get("multilabel"):
        return dict(enumerate(names))
    if head.get("num_classes") == 1:  # binary: one logit, values 0 and 1
        return {1: names[-1]}
    first = 1 if head.get("background") else 0
    return dict(enumerate(names[first:], first))
