"""Words of messages: numbers of things, and the nearest of a table to a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")
LISTED = 20
"""Accepted names that a message lists at most."""


def choose(key: str, name: str, table: Mapping[str, Value]) -> Value:
    """Returns `table[name]`.

    Args:
        key: What the user set, as the error calls it, e.g. "norm".
        name: What the user set it to.
        table: Accepted names and what they stand for.

    Raises:
        ValueError: If the name is unknown; names the accepted ones and the nearest of them.
    """
    if name not in table:
        raise ValueError(unknown(key, name, table))
    return table[name]


def check_keys(key: str, given: Iterable[str], accepted: Iterable[str]) -> None:
    """Refuses keys that nothing reads: arguments of a class, entries of a mapping.

    Args:
        key: Where they stand, e.g. "Augment.steps.Blur".
        given: The keys below it.
        accepted: The names there are.

    Raises:
        ValueError: At the first unknown one, with the nearest.
    """
    accepted = list(accepted)
    for name in given:
        if name not in accepted:
            raise ValueError(unknown(f"{key}.{name}", name, accepted))


def unknown(key: str, name: object, accepted: Iterable[str]) -> str:
    """The message for a name that is not among the accepted ones; of these it lists 20 at most.

    Args:
        key: The key or the file in which it was found.
        name: What was found.
        accepted: What would have been right.
    """
    names = list(accepted)
    listed = ", ".join(names[:LISTED]) + (f", ... ({len(names)} in all)" if names[LISTED:] else "")
    expected = f"one of {listed}" if names else "nothing"
    return f"{key}: expected {expected}, got {name!r}{nearest(name, names)}"


def nearest(name: object, accepted: Iterable[str]) -> str:
    """The end of a message, `; did you mean X?`, empty where no accepted name is like this one."""
    folded = {option.casefold(): option for option in accepted}
    close = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 image`, `2 images`; `2 boxes` where the plural is given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def readable(path: object) -> str:
    r"""A path as text of any encoding: bytes of a name that are no UTF-8 become `\xe9`."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def foreground(head: Mapping[str, Any]) -> dict[int, str]:
    """Mask value (multi-label: channel) of every class but the background, and its name.

    Args:
        head: `info["heads"][HEAD]` of a model, or what a data set with masks describes.
    """
    names = list(head["names"])
    if head.get("multilabel"):
        return dict(enumerate(names))
    if head.get("num_classes") == 1:  # binary: one logit, values 0 and 1
        return {1: names[-1]}
    first = 1 if head.get("background") else 0
    return dict(enumerate(names[first:], first))
