"""Installed plug-ins: packages named by the entry points of the group `densekit.plugins`.

Plug-ins are not imported here, so a broken one cannot stop a command that does not use it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path

PLUGIN_GROUP = "densekit.plugins"
CONTRACT = 1
"""Version of the contract between densekit and plug-ins: what `densekit check` tests.

It is incremented by every change that can break a part which kept the contract, such as a new
abstract method or another meaning of a sample's entry. Optional additions do not increment it.
"""


@dataclass(frozen=True)
class Plugin:
    """An installed plug-in.

    Attributes:
        package: The package that its entry point names, e.g. `acme_polyp` or `acme.polyp`.
        conf: Its folder of Hydra groups, None if it has none.
        error: Why it cannot be used; empty if it can.
    """

    package: str
    conf: Path | None = None
    error: str = ""


@cache
def plugin_packages() -> tuple[str, ...]:
    """Returns the packages of the installed plug-ins, sorted, without importing them."""
    points = entry_points(group=PLUGIN_GROUP)
    return tuple(sorted({point.value.partition(":")[0].strip() for point in points}))


def plugin_of(path: str) -> str:
    """Returns the package of the plug-in that a dotted path lies in, "" if it is in none."""
    around = (name for name in plugin_packages() if f"{path}.".startswith(f"{name}."))
    return max(around, key=len, default="")


def find_plugins() -> list[Plugin]:
    """Returns every installed plug-in, sorted by package."""
    return [_find(package) for package in plugin_packages()]


def conf_folders() -> list[Path]:
    """Returns the `conf` folders of the usable plug-ins, for Hydra's search path."""
    return [plugin.conf for plugin in find_plugins() if plugin.conf and not plugin.error]


def check_contract(package: str) -> None:
    """Refuses a plug-in of another version of the contract.

    Args:
        package: Package of an installed plug-in.

    Raises:
        ValueError: The plug-in states another version of the contract, or none.
    """
    if error := _find(package).error:
        raise ValueError(f"{package}: {error}")


def _find(package: str) -> Plugin:
    try:
        spec = _spec(package)
    except (ImportError, ValueError) as error:
        return Plugin(package, error=f"{type(error).__name__}: {error}")
    if spec is None:
        return Plugin(package, error="expected an installed package, got none")
    wrong = "" if package == "densekit" else _mismatch(spec.origin)
    for location in spec.submodule_search_locations or ():
        folder = Path(location) / "conf"
        if folder.is_dir():
            return Plugin(package, folder, wrong)
    return Plugin(package, error=wrong)


def _spec(package: str) -> ModuleSpec | None:
    """Finds a package without an import; `importlib.util.find_spec` imports those around it."""
    top, *inner = package.split(".")
    spec = importlib.util.find_spec(top)
    for name in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = _inner_spec(f"{spec.name}.{name}", list(spec.submodule_search_locations))
    return spec


def _inner_spec(package: str, folders: list[str]) -> ModuleSpec | None:
    for finder in sys.meta_path:
        with suppress(KeyError):  # a namespace, whose spec needs the package around it imported
            if spec := finder.find_spec(package, folders):
                return spec
    namespace = ModuleSpec(package, None, is_package=True)
    inside = [Path(folder, package.rpartition(".")[2]) for folder in folders]
    namespace.submodule_search_locations = [str(folder) for folder in inside if folder.is_dir()]
    return namespace if namespace.submodule_search_locations else None


def _mismatch(file: str | None) -> str:
    """What is wrong with the contract version that a package states; empty if nothing."""
    stated = _stated(Path(file)) if file else "nothing"
    if stated == CONTRACT:
        return ""
    if isinstance(stated, str):
        name = Path(file).name if file else "__init__.py"
        return (
            f"expected CONTRACT = {CONTRACT}, a plain number at the top level of {name}, "
            f"got {stated}"
        )
    newer = "upgrade densekit" if stated > CONTRACT else "upgrade the plug-in"
    return f"expected a plug-in for contract {CONTRACT}, got {stated}; {newer}"


def _stated(file: Path) -> int | str:
    """The number that a file assigns to `CONTRACT`, read without running it; else a description."""
    try:
        lines = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    for line in reversed(lines):
        if _binds_contract(line):
            number = _assigned(line)
            return repr(ast.unparse(line).splitlines()[0]) if number is None else number
    return "nothing"


def _binds_contract(line: ast.stmt) -> bool:
    """Whether a statement, or one inside it, assigns or imports the name `CONTRACT`."""
    if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    if isinstance(line, ast.AnnAssign) and line.value is None:
        return False
    return any(
        (isinstance(node, ast.Name) and node.id == "CONTRACT" and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.alias) and (node.asname or node.name) == "CONTRACT")
        for node in ast.walk(line)
    )


def _assigned(line: ast.stmt) -> int | None:
    """The number that an assignment gives to its names; None for all else, also for `True`."""
    if not isinstance(line, ast.Assign | ast.AnnAssign) or not isinstance(line.value, ast.Constant):
        return None
    number = line.value.value
    return number if type(number) is int else None
