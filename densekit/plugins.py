"""Installed plug-ins: packages in the entry-point group `densekit.plugins`.

Plug-ins are not imported here, so a broken one cannot stop a command that does not use it.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
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
        package: Its top-level package.
        conf: Its folder of Hydra groups, None if it has none.
        error: Why it cannot be used; empty if it can.
    """

    package: str
    conf: Path | None = None
    error: str = ""


@cache
def plugin_packages() -> tuple[str, ...]:
    """Returns the top-level packages of the installed plug-ins, sorted, without importing them."""
    points = entry_points(group=PLUGIN_GROUP)
    return tuple(sorted({point.value.partition(":")[0].partition(".")[0] for point in points}))


def find_plugins() -> list[Plugin]:
    """Returns every installed plug-in, sorted by package."""
    return [_find(package) for package in plugin_packages()]


def conf_folders() -> list[Path]:
    """Returns the `conf` folders of the plug-ins, for Hydra's search path."""
    return [plugin.conf for plugin in find_plugins() if plugin.conf is not None]


def check_contract(package: str) -> None:
    """Refuses a plug-in of another version of the contract; accepts all other packages.

    Raises:
        ValueError: The plug-in states another version of the contract, or none.
    """
    error = _find(package).error if package in plugin_packages() else ""
    if error:
        raise ValueError(f"{package}: {error}")


def _find(package: str) -> Plugin:
    try:
        spec = importlib.util.find_spec(package)
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


def _mismatch(file: str | None) -> str:
    """What is wrong with the contract version that a package states; empty if nothing."""
    stated = _stated(Path(file)) if file else "nothing"
    if stated == CONTRACT:
        return ""
    if isinstance(stated, str):
        return f"expected CONTRACT = {CONTRACT} in {file or '__init__.py'}, got {stated}"
    newer = "upgrade densekit" if stated > CONTRACT else "upgrade the plug-in"
    return f"expected a plug-in for contract {CONTRACT}, got {stated}; {newer}"


def _stated(file: Path) -> int | str:
    """The number that a file assigns to `CONTRACT`, read without running it; else a description."""
    try:
        lines = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    for line in lines:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "CONTRACT":
            number = line.value.value if isinstance(line.value, ast.Constant) else None
            return number if isinstance(number, int) else ast.unparse(line.value)
    return "nothing"
