"""Reads JSON and YAML that anybody may have written: one error that names the file.

Integers fit in a float; nesting is as deep as the parsers allow; what YAML repeats by reference is
counted as if it were written out.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

LONGEST = 300
"""Digits of an integer; no float holds more."""
MOST_NODES = 1_000_000
"""Values in a YAML text, repeated ones included."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Pairs = Callable[[Sequence[tuple[str, Any]]], Any]


def check_regular(path: Path) -> None:
    """Refuses what is no file but has a name: reading a pipe can wait, a device never ends.

    What does not exist passes, as whoever opens it says so.

    Raises:
        ValueError: It is a folder, a pipe, a socket or a device.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return
    if kind != stat.S_IFREG:
        raise ValueError(f"{path}: expected a file, got {_KINDS.get(kind, 'something else')}")


def read_json(path: Path, pairs: Pairs | None = None) -> Any:
    """Reads a JSON file in any Unicode encoding; see `parse_json`.

    Raises:
        ValueError: It does not exist, cannot be read, or is not JSON.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: expected a readable file, got: {error.strerror}") from error
    return parse_json(content, path, pairs)


def parse_json(content: bytes | str, path: Path, pairs: Pairs | None = None) -> Any:
    """Parses JSON.

    Args:
        content: The text.
        path: Its file, for messages.
        pairs: Makes an object of its keys and values.

    Raises:
        ValueError: It is not JSON, or holds an integer of more than 300 digits.
    """
    try:
        return json.loads(content, object_pairs_hook=pairs, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got: {error}") from error


def _integer(text: str) -> int:
    if len(text) > LONGEST:
        raise ValueError(f"a number of {len(text)} digits ({text[:20]}...)")
    return int(text)


def parse_yaml(text: str, source: object, loader: type = yaml.SafeLoader) -> Any:
    """Parses YAML with a loader that builds plain values only.

    Args:
        text: The text.
        source: Its file, for messages.
        loader: `yaml.SafeLoader`, or `yaml.BaseLoader` for text alone.

    Raises:
        ValueError: It is not YAML, or repeats its values without end.
    """
    try:
        content = yaml.load(text, Loader=loader)  # nosec B506 # the loaders above
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: impossible dates
        detail = " ".join(str(error).split())[:300]
        raise ValueError(f"{source}: expected YAML, got: {detail}") from error
    waiting, count = [content], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > MOST_NODES:
            raise ValueError(f"{source}: expected at most {MOST_NODES:,} values, got more")
        if isinstance(node, dict):
            waiting += [*node, *node.values()]
        elif isinstance(node, list | tuple | set):
            waiting += node
    return content
