"""Reads facts about classes from their source, as importing torch takes seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HOMES = ("densekit", "lightning", "torch")
"""Packages whose sources are read."""
ABSTRACT = ("ABC", "Generic", "Protocol", "nn.Module", "object")
"""Base classes that take no arguments."""
METRIC_ARGUMENTS = (
    *("compute_on_cpu", "compute_with_cache", "dist_sync_fn", "dist_sync_on_step"),
    *("distributed_available_fn", "process_group", "sync_on_compute"),
)
"""The `**kwargs` of torchmetrics.Metric, the base class of metrics."""


@dataclass(frozen=True)
class Signature:
    """The arguments of a class.

    Attributes:
        types: Name to annotation as written; empty if there is none.
        package: Top-level package that defines the class.
        is_open: Whether it also takes any others: `**kwargs` of another package's class.
    """

    types: dict[str, str]
    package: str
    is_open: bool = False


@cache
def signature(path: str) -> Signature | None:
    """The arguments of a class, if its source tells them.

    Args:
        path: Dotted path, `densekit.heads.FasterRCNN`.

    Returns:
        None if the class must be imported to tell: one of another package, one that does not
        exist, or one that passes `**kwargs` on as its method `passed_on` says.
    """
    found = _find(path.split("."))
    if found is None:
        return None
    package = found[1].partition(".")[0]
    init = _init(found[0])
    if package != "densekit" and init is not None and init.args.kwarg:
        return Signature(dict(_parameters(init)), package, is_open=True)
    types = _arguments(*found)
    return None if types is None else Signature(types, package)


def attribute(path: str, name: str) -> Any:
    """The value of a class's attribute, if its source states it as a literal.

    Args:
        path: Dotted path of the class.
        name: The attribute; that of the first base class if the class has none of its own.

    Returns:
        None if the class must be imported to tell.
    """
    found = _find(path.split("."))
    while found is not None:
        node, module = found
        if (value := _value(node, name)) is not None:
            try:
                return ast.literal_eval(value)
            except ValueError:
                return None
        bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
        found = _named(module, bases[0]) if bases else None
    return None


def _value(node: ast.ClassDef, name: str) -> ast.expr | None:
    """The expression that a class's body assigns to a name."""
    for item in node.body:
        if isinstance(item, ast.Assign | ast.AnnAssign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            if name in map(ast.unparse, targets):
                return item.value
    return None


def _find(parts: list[str]) -> tuple[ast.ClassDef, str] | None:
    """A class and the module that defines it."""
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        if parts[0] in HOMES and _file(module) is not None:
            return _named(module, parts[end]) if end == len(parts) - 1 else None
    return None


@cache
def _file(module: str) -> Path | None:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder, *rest)
        for file in (path / "__init__.py", path.with_suffix(".py") if rest else path):
            if file.is_file():
                return file
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    file = _file(module)
    return ast.parse(file.read_text("utf-8")) if file else None


@cache
def _named(module: str, name: str) -> tuple[ast.ClassDef, str] | None:
    """Finds the class behind a name of a module, through imports and lazy tables."""
    tree = _tree(module)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, module
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name and (home := _home(module, node)):
                    return _named(home, alias.name)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "lazy"
        ):
            table = ast.literal_eval(node.args[1])
            if name in table:
                return _named(f"{module}.{table[name]}", name)
    return None


def _home(module: str, node: ast.ImportFrom) -> str:
    """The module that an import refers to; empty if its source is not read."""
    if not node.level:
        home = node.module or ""
    else:
        file = _file(module)
        is_package = file is not None and file.name == "__init__.py"
        parts = module.split(".")[: None if is_package else -1]
        parts = parts[: len(parts) - (node.level - 1)]
        home = ".".join([*parts, *([node.module] if node.module else [])])
    return home if home.split(".")[0] in HOMES else ""


def _arguments(node: ast.ClassDef, module: str) -> dict[str, str] | None:
    """Names and annotations of a class's arguments, including those it passes on to its bases."""
    if any(isinstance(item, ast.FunctionDef) and item.name == "passed_on" for item in node.body):
        return None
    if init := _init(node):
        own = dict(_parameters(init))
        return own if init.args.kwarg is None else _with_bases(own, node, module)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        own = dict(_fields(node))
        return _with_bases(own, node, module) if node.bases else own
    return _with_bases({}, node, module)


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    functions = (item for item in node.body if isinstance(item, ast.FunctionDef))
    return next((item for item in functions if item.name == "__init__"), None)


def _with_bases(own: dict[str, str], node: ast.ClassDef, module: str) -> dict[str, str] | None:
    """Adds the arguments of the base class; None if it is unknown or there are several."""
    names = [ast.unparse(base).partition("[")[0] for base in node.bases]
    bases = [name for name in names if name not in ABSTRACT]
    if not bases:
        return own
    if bases == ["Metric"]:
        return {**dict.fromkeys(METRIC_ARGUMENTS, ""), **own}
    found = _named(module, bases[0]) if len(bases) == 1 else None
    inherited = _arguments(*found) if found else None
    return None if inherited is None else {**inherited, **own}


def _parameters(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    spec = function.args
    for argument in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs][1:]:
        yield argument.arg, ast.unparse(argument.annotation) if argument.annotation else ""


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, ast.unparse(item.annotation)
