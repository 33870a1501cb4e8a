"""Quotes paths and names of a command line, so that Hydra's grammar takes them literally."""

from __future__ import annotations

import re
from typing import Any

from densekit.app.config import groups

PATH_NAMES = frozenset(
    {
        "annotations",
        "artifact",
        "checkpoint",
        "folder",
        "gallery",
        "images",
        "output",
        "path",
        "resume",
        "results",
    }
    | {"root", "save_dir", "source"}
)
"""Last components of keys that hold a path, as do `backbone.weights` and all keys in `paths`.

`weights` of anything else are numbers.
"""
NAMES = frozenset({"keep_heads", "objective", "precision", "run_name", "trust"})
"""Keys that hold names, as do choices of a group and `reset_head=[NAME]`."""

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PATH = re.compile(rf"\s*(?:{_QUOTED})\s*(?=,|$)|(?:\$\{{[^{{}}]*\}}|[^,])*")
_PLAIN_NAME = re.compile(r"[^\W\d][\w/.-]*", re.ASCII)
_NO_TEXT = ("true", "false", "null", "inf", "nan")
"""Literals that Hydra does not read as text."""


def is_path_key(key: str) -> bool:
    """Whether the value of a key is a path: `checkpoint`, `paths.data`, `data.bccd.train.root`."""
    parts = key.lstrip("+~").split(".")
    if parts[0] == "vars":  # may be anything, whatever its name
        return False
    of_weights = parts[-2:] == ["backbone", "weights"]
    return parts[-1] in PATH_NAMES or of_weights or (len(parts) > 1 and parts[0] == "paths")


def holds_names(key: str, value: str) -> bool:
    """Whether the value of a key is a name, or a list of names: `run_name`, `trust`, `data`."""
    name = key.lstrip("+~").partition("@")[0]
    heads = name == "reset_head" and value.startswith("[")
    return heads or name in NAMES or groups.is_group(name)


def quote(argument: str, *, sweep: bool = False) -> str:
    """Quotes the value of a path or name where Hydra's grammar would not read it as text.

    Hydra refuses `= ( [ ~ # & '` in a path, and reads the name `2024_01_02` as a number. `null`,
    quoted values and all other keys stay as they are; `${...}` still interpolates.

    Args:
        argument: key=value.
        sweep: Whether a comma separates paths; otherwise it is part of a single path.
    """
    key, equals, value = argument.partition("=")
    if equals and is_path_key(key):
        paths = split_paths(value) if sweep else [value]
        inner = choices_of(value) if sweep else None
        if inner is not None:
            return f"{key}=choice({','.join(quote_text(path) for path in split_paths(inner))})"
        return f"{key}={','.join(quote_text(path) for path in paths)}"
    if equals and holds_names(key, value):
        names = [quote_name(name) for name in split_commas(value)]
        return f"{key}=[{names[0]}]" if _is_one_of_list(key, value) else f"{key}={','.join(names)}"
    return argument


def _is_one_of_list(key: str, value: str) -> bool:
    """Whether `trust=my_head` means the list of that one name."""
    listed = key.lstrip("+") in ("trust", "keep_heads")
    return listed and value != "null" and len(split_commas(value)) == 1 and value[:1] not in "[$"


def quote_text(text: str) -> str:
    """Quotes a value, so that Hydra takes it literally, unless it is `null` or quoted."""
    from hydra.core.override_parser.types import Quote, QuotedString

    is_read = is_quoted(text.strip()) or text == "null"
    return text if is_read else QuotedString(text, Quote.single).with_quotes()


def quote_name(text: str) -> str:
    """Quotes a name, or the names of a list or choice, where Hydra would not read text."""
    if text.startswith("[") and text.endswith("]"):
        return f"[{','.join(quote_name(name) for name in split_commas(text[1:-1]))}]"
    if _PLAIN_NAME.fullmatch(text) and text.lower() not in _NO_TEXT:
        return text
    inner = choices_of(text)
    if inner is not None:
        return f"choice({','.join(quote_name(name) for name in split_commas(inner))})"
    return text if _is_other(text) else quote_text(text)


def as_text(typed: str, value: Any) -> Any:
    """The value of a setting that takes only text: there `1e3` and `true` are text, too.

    Args:
        typed: The value as typed.
        value: The value as parsed by Hydra.
    """
    if isinstance(value, list):
        parts = split_commas(typed[1:-1])
        is_plain = len(parts) == len(value)  # no comma is escaped
        return [as_text(*pair) for pair in zip(parts, value, strict=True)] if is_plain else value
    is_read = is_quoted(typed.strip()) or typed == "null" or _is_other(typed)
    return value if is_read else typed


def is_quoted(text: str) -> bool:
    """Whether a value is in quotes."""
    return re.fullmatch(_QUOTED, text, re.DOTALL) is not None


def _is_other(text: str) -> bool:
    """Whether a value is neither a name nor a list of names: empty, a mapping, `${...}`."""
    return not text or text.startswith("{") or "(" in text or "${" in text


def split_commas(text: str) -> list[str]:
    """Splits a value at commas outside quotes and brackets."""
    parts, depth = [""], 0
    for token in re.findall(rf"{_QUOTED}|.", text, re.DOTALL):
        depth += (token in "([{") - (token in ")]}")
        if token == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def choices_of(value: str) -> str | None:
    """The content of `choice(...)`; None for any other value."""
    found = re.fullmatch(r"\s*choice\s*\((.*)\)\s*", value, re.DOTALL)
    return found[1] if found else None


def split_paths(text: str) -> list[str]:
    """Splits paths at commas; quotes and brackets inside a path have no meaning."""
    found, start = [], 0
    while start <= len(text):
        match = _PATH.match(text, start)
        assert match is not None  # it also matches nothing
        found.append(match[0])
        start = match.end() + 1
    return found
