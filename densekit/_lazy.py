"""Lazy public names (PEP 562): a package lists its names without importing their modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns a package's `__getattr__`, `__dir__` and `__all__`, made from a table of names.

    Args:
        package: The package's `__name__`.
        modules: Public name to the submodule that defines it, e.g. `{"FPN": "fpn"}`.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    names = sorted(modules)
    return getattr_, lambda: names, names
