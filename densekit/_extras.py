"""Packages of densekit's extras: imported when they are needed, asked for by name when missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


class MissingPackageError(ImportError):
    """A package of an extra is not installed."""


def need(package: str, purpose: str, extra: str = "medical") -> Any:
    """The imported package.

    Args:
        package: What to import.
        purpose: What it is needed for, the beginning of the message.
        extra: The extra of densekit that brings it.

    Raises:
        ImportError: It is not installed; the message says how to get it.
    """
    top = package.partition(".")[0]
    try:
        importlib.import_module(top)
    except ModuleNotFoundError as error:
        if error.name != top:  # it is there, something that it needs is not
            raise
        raise _missing(top, purpose, extra) from error
    return importlib.import_module(package)


def check_installed(package: str, purpose: str, extra: str) -> None:
    """Refuses to go on without a package, which is not imported yet; see `need`.

    Raises:
        ImportError: It is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise _missing(package, purpose, extra)


def _missing(package: str, purpose: str, extra: str) -> ImportError:
    return MissingPackageError(f"{purpose} needs {package}: pip install 'densekit[{extra}]'")
