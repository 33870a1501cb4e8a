"""The formats by name and by the end of a file's name."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from densekit.inference.export.base import CONFIG, INFO, Format

MODULES = {"torch_export": "program"}
"""Name of a format to its module in this folder, which is imported when it is used."""
SUFFIXES = {".pt2": "torch_export"}
"""End of a file's name to the format whose `read_facts` reads it."""


def format_of(name: str) -> Format:
    """Returns a format by its name."""
    module = importlib.import_module(f"densekit.inference.export.{MODULES[name]}")
    found: Format = module.FORMAT
    return found


def facts_of(file: Path) -> tuple[dict[str, Any], str]:
    """Reads the model's `info` and configuration from an exported file, without loading it.

    Raises:
        ValueError: The file was not exported by densekit.
    """
    texts = format_of(SUFFIXES[file.suffix]).read_facts(file)
    try:
        info, config = json.loads(texts[INFO]), texts[CONFIG]
        if not isinstance(info, dict):
            raise ValueError(f"{INFO}: expected an object, got {type(info).__name__}")
    except KeyError as error:
        raise ValueError(
            f"{file}: expected a file exported by densekit, got one without {error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: expected a file exported by densekit, got another one: {error}"
        ) from error
    return info, config
