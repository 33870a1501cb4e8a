"""Checks of a configuration against the classes it names, before any of them is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from densekit._names import unknown
from densekit.app.config.signatures import METRIC_ARGUMENTS, Signature, signature
from densekit.app.config.values import RUN_KEYS, check_kind, check_number
from densekit.app.errors import UsageError
from densekit.build import INTERNAL_KEYS, TORCH_CLASSES, find_class, walk

PASSED_ON = {
    "builtins.object": set[str](),
    "torch.nn.modules.module.Module": set[str](),
    "torchmetrics.metric.Metric": set(METRIC_ARGUMENTS),
}
"""What the base classes at the end of a chain of `**kwargs` take."""


def arguments(node: Mapping[str, Any], key: str, trust: Sequence[str]) -> set[str] | None:
    """The names of the arguments of a node's class, None where it takes any.

    A class of densekit with `**kwargs` passes them on to its base, whose arguments they are, or
    tells by a class method `passed_on(node)` which ones it takes; what a plug-in does with them is
    its own affair.

    Raises:
        UsageError: The class is not trusted or does not exist, or another argument is wrong.
    """
    if said := read(node):
        return None if said.is_open else set(said.types)
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
    """What the source of a node's class says, where it is one that any configuration may build."""
    path = str(node["_target_"])
    found = signature(path)
    ours = found is not None and found.package == path.partition(".")[0] == "densekit"
    return found if ours or path in TORCH_CLASSES else None


def _own(function: Any) -> tuple[set[str], bool]:
    """Names of the parameters, and whether there are `**kwargs` among them."""
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = {parameter.name for parameter in parameters if parameter.kind not in variadic}
    return names, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _passed_on(found: Any, node: Mapping[str, Any], key: str) -> set[str]:
    """What a class says that it takes beside the arguments it names."""
    try:
        return set(found.passed_on(node)) if hasattr(found, "passed_on") else set()
    except ValueError as error:
        raise UsageError(f"{key}.{error}") from error


def _inherited(found: type) -> set[str] | None:
    """The arguments of a class and, as long as they pass `**kwargs` on, of its bases."""
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
        node: Names the class.
        names: The arguments.
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


def check_nodes(cfg: Mapping[str, Any], trust: Sequence[str]) -> None:
    """Checks every class of a configuration, and every argument written for it.

    Raises:
        UsageError: A class does not exist or is not trusted, an argument is not one of its class,
            or a value is of another kind, or out of the range, that is accepted.
    """
    for key, annotation in RUN_KEYS.items():
        if key in cfg:
            check_kind(key, cfg[key], annotation)
    for key, node in walk(cfg):
        check_number(key, node)
        if isinstance(node, Mapping) and "_target_" in node:
            check_arguments(node, node, key, trust)
            types = said.types if (said := read(node)) else {}
            for name in [name for name in node if name in types]:
                check_kind(f"{key}.{name}", node[name], types[name])
