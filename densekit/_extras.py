"""Packages of densekit's extras: imported when they are needed, asked for by name when missing."""

from __future__ import annotations

import importlib
from typing import Any


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
        raise ImportError(f"{purpose} needs {top}: pip install 'densekit[{extra}]'") from error
    return importlib.import_module(package)
