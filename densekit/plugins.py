"""Installed plug-ins: packages that the entry-point group `densekit.plugins` names.

Nothing of a plug-in is imported here, so a broken one cannot stop a command that does not use it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

PLUGIN_GROUP = "densekit.plugins"


@dataclass(frozen=True)
class Plugin:
    """An installed plug-in.

    Attributes:
        package: Its top-level package.
        conf: Its folder of Hydra groups, None where it ships none.
        error: Why it cannot be used; empty where nothing is wrong.
    """

    package: str
    conf: Path | None = None
    error: str = ""


@cache
def plugin_packages() -> tuple[str, ...]:
    """Top-level packages of the installed plug-ins, sorted, read without importing them."""
    points = entry_points(group=PLUGIN_GROUP)
    return tuple(sorted({point.value.partition(":")[0].partition(".")[0] for point in points}))


def find_plugins() -> list[Plugin]:
    """Every installed plug-in, sorted by package."""
    return [_find(package) for package in plugin_packages()]


def conf_folders() -> list[Path]:
    """The `conf` folders of the plug-ins, for Hydra's search path."""
    return [plugin.conf for plugin in find_plugins() if plugin.conf is not None]


def _find(package: str) -> Plugin:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        return Plugin(package, error=f"{type(error).__name__}: {error}")
    if spec is None:
        return Plugin(package, error=f"no package named {package!r} is installed")
    for location in spec.submodule_search_locations or ():
        folder = Path(location) / "conf"
        if folder.is_dir():
            return Plugin(package, folder)
    return Plugin(package)
