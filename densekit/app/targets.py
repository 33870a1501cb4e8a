"""Checks of a configuration against the classes it names, before any of them is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from densekit.app.errors import UsageError
from densekit.build import INTERNAL_KEYS, find_class, nearest, walk


def arguments(target: str, key: str, trust: Sequence[str]) -> set[str] | None:
    """The names of a class's arguments, None where it takes any (`**kwargs`).

    Raises:
        UsageError: The class is not trusted or does not exist.
    """
    try:
        parameters = inspect.signature(find_class(target, key, trust)).parameters.values()
    except ValueError as error:
        raise UsageError(str(error)) from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}


def check_arguments(target: str, names: Iterable[str], key: str, trust: Sequence[str]) -> None:
    """Refuses arguments that a class does not have.

    Args:
        target: The class.
        names: The arguments.
        key: The configuration key of the class's node.
        trust: Further packages whose classes may be built.
    """
    accepted = arguments(target, key, trust)
    if accepted is None:
        return
    for name in names:
        if name not in accepted and name not in INTERNAL_KEYS:
            owner, hint = target.rpartition(".")[2], nearest(name, accepted)
            raise UsageError(f"{key}.{name}: {owner} has no such argument. {hint}")


def check_nodes(cfg: Mapping[str, Any], trust: Sequence[str]) -> None:
    """Checks every class of a configuration, and every argument written for it."""
    for key, node in walk(cfg):
        if isinstance(node, Mapping) and "_target_" in node:
            check_arguments(str(node["_target_"]), node, key, trust)
