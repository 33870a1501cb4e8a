"""Checks a configuration against the classes it names, before any of them is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from densekit._names import unknown
from densekit.app.config.signatures import METRIC_ARGUMENTS, Signature, signature
from densekit.app.config.values import RUN_KEYS, check_kind, check_number
from densekit.app.errors import UsageError
from densekit.build import INTERNAL_KEYS, TORCH_CLASSES, check_part, find_class, walk

PASSED_ON = {
    "builtins.object": set[str](),
    "torch.nn.modules.module.Module": set[str](),
    "torchmetrics.metric.Metric": set(METRIC_ARGUMENTS),
}
"""Arguments of the base classes at which a chain of `**kwargs` ends."""
SINGLE = ("backbone", "neck", "training", "optimizer", "schedule", "inferer", "trainer")
"""Keys of the configuration that describe one object."""
NAMED = ("data", "heads", "combine", "callbacks", "logger")
"""Keys that describe one object per name."""
REQUIRED = ("backbone", "data", "heads")
"""Keys whose objects cannot be left out by null."""


def arguments(node: Mapping[str, Any], key: str, trust: Sequence[str]) -> set[str] | None:
    """The argument names of a node's class; None if it takes any.

    A class of densekit with `**kwargs` passes them on to its base class, or names those it takes in
    a class method `passed_on(node)`. Those of a plug-in are not checked.

    Raises:
        UsageError: The class is not trusted or does not exist, or another argument is wrong.
    """
    if declared := read(node):
        return None if declared.is_open else set(declared.types)
    try:
        found = find_class(str(node["_target_"]), key, trust)
        names, is_open = _own(found)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not is_open:
        return names
    inherited = _inherited(found) if found.__module__.startswith("densekit.") else None
    return None if inherited is None else inherited | _passed_on(found, node, key)


def read(node: Mapping[str, Any]) -> Signature | None:
    """Reads the signature of a node's class from source, if any configuration may build it."""
    path = str(node["_target_"])
    found = signature(path)
    ours = found is not None and found.package == path.partition(".")[0] == "densekit"
    return found if ours or path in TORCH_CLASSES else None


def _own(function: Any) -> tuple[set[str], bool]:
    """Names of the parameters, and whether they include `**kwargs`."""
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = {parameter.name for parameter in parameters if parameter.kind not in variadic}
    return names, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _passed_on(found: Any, node: Mapping[str, Any], key: str) -> set[str]:
    """The further arguments that a class declares in `passed_on`."""
    try:
        return set(found.passed_on(node)) if hasattr(found, "passed_on") else set()
    except ValueError as error:
        raise UsageError(f"{key}.{error}") from error


def _inherited(found: type) -> set[str] | None:
    """The arguments of a class and, while `**kwargs` are passed on, of its bases."""
    names: set[str] = set()
    for base in found.__mro__:
        if (home := f"{base.__module__}.{base.__qualname__}") in PASSED_ON:
            return names | PASSED_ON[home]
        if "__init__" in vars(base):
            own, is_open = _own(base.__init__)  # type: ignore[misc]
            names |= own - {"self"}
            if not is_open:
                return names
    return None


def check_arguments(
    node: Mapping[str, Any], names: Iterable[str], key: str, trust: Sequence[str]
) -> None:
    """Refuses arguments that a class does not have.

    Args:
        node: Configuration with `_target_`.
        names: The names of the arguments.
        key: The configuration key of the node.
        trust: Further packages whose classes may be built.
    """
    accepted = arguments(node, key, trust)
    if accepted is None:
        return
    for name in map(str, names):
        if name not in accepted and name not in INTERNAL_KEYS:
            owner = str(node["_target_"]).rpartition(".")[2]
            raise UsageError(unknown(f"{key}.{name} ({owner})", name, sorted(accepted)))


def _check_parts(cfg: Mapping[str, Any]) -> None:
    """Refuses a node that must describe an object but names no class."""
    parts = {key: cfg[key] for key in SINGLE if key in cfg}
    for group in NAMED:
        parts |= {f"{group}.{name}": node for name, node in (cfg.get(group) or {}).items()}
    for head, named in (cfg.get("metrics") or {}).items():
        parts |= {f"metrics.{head}.{name}": node for name, node in (named or {}).items()}
    for key, node in parts.items():
        if node or key.partition(".")[0] in REQUIRED:
            try:
                check_part(node, key)
            except ValueError as error:
                raise UsageError(str(error)) from error


def check_nodes(cfg: Mapping[str, Any], trust: Sequence[str]) -> None:
    """Checks every class of a configuration, and every argument written for it.

    Raises:
        UsageError: An object has no class, a class does not exist or is not trusted, an argument is
            unknown to it, or a value has the wrong type or is out of range.
    """
    _check_parts(cfg)
    for key, annotation in RUN_KEYS.items():
        if key in cfg:
            check_kind(key, cfg[key], annotation)
    for key, node in walk(cfg):
        check_number(key, node)
        if isinstance(node, Mapping) and "_target_" in node:
            check_arguments(node, node, key, trust)
            types = declared.types if (declared := read(node)) else {}
            for name in [name for name in node if name in types]:
                check_kind(f"{key}.{name}", node[name], types[name])
