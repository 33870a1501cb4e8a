"""Words of messages: numbers of things, and the nearest of a table to a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")


def choose(setting: str, name: str, table: Mapping[str, Value]) -> Value:
    """Returns `table[name]`.

    Args:
        setting: What the user set, as the error calls it, e.g. "norm".
        name: What the user set it to.
        table: Accepted names and what they stand for.

    Raises:
        ValueError: If the name is unknown; names the accepted ones and the nearest of them.
    """
    if name not in table:
        raise ValueError(unknown(setting, name, table))
    return table[name]


def unknown(setting: str, name: object, accepted: Iterable[str]) -> str:
    """The message for a name that is not among the accepted ones."""
    accepted = list(accepted)
    nearest = difflib.get_close_matches(str(name), accepted, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{setting}: {name!r} is not known, accepted are {', '.join(accepted)}{hint}"


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
