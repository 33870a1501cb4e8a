"""The formats by name and by the end of a file's name."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from densekit.inference.export.base import CONFIG, INFO, PARITY, SHAPES, Format
from densekit.inference.export.digest import DIGEST


class Facts(NamedTuple):
    """What an exported file says of itself.

    Attributes:
        info: The model's `info`.
        config: The configuration that built it, YAML text.
        shapes: The `Example` that it was exported for.
        parity: How far the file is from its model, see `densekit.inference.export.gate.Parity`.
    """

    info: dict[str, Any]
    config: str
    shapes: dict[str, Any]
    parity: dict[str, Any]


MODULES = {
    "torch_export": "program",
    "aotinductor": "aotinductor",
    "executorch": "executorch",
    "onnx": "onnx",
    "openvino": "openvino",
}
"""Name of a format to its module in this folder, which is imported when it is used."""
SUFFIXES = {
    ".pt2": "torch_export",
    ".pte": "executorch",
    ".onnx": "onnx",
    ".xml": "openvino",
}
"""End of a file's name to its format, the default one of several."""


def format_of(name: str) -> Format:
    """Returns a format by its name."""
    module = importlib.import_module(f"densekit.inference.export.{MODULES[name]}")
    found: Format = module.FORMAT
    return found


def format_by_suffix(file: Path) -> str:
    """Returns the name of the format that the end of a file's name stands for.

    Raises:
        ValueError: It stands for none.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(
            f"output: expected a file that ends in {' or '.join(SUFFIXES)}, got {file}"
        )
    return SUFFIXES[file.suffix]


def facts_of(file: Path) -> Facts:
    """Reads what an exported file says of itself, without loading it.

    Raises:
        ValueError: The file was not exported by densekit, or is damaged.
    """
    texts = format_of(SUFFIXES[file.suffix]).read_facts(file)
    try:
        if DIGEST not in texts:
            raise KeyError(DIGEST)
        info, shapes, parity = (_object(texts, name) for name in (INFO, SHAPES, PARITY))
        return Facts(info, texts[CONFIG], shapes, parity)
    except KeyError as error:
        raise ValueError(
            f"{file}: expected a file exported by densekit, got one without {error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: expected a file exported by densekit, got another one: {error}"
        ) from error


def _object(texts: dict[str, str], name: str) -> dict[str, Any]:
    found = json.loads(texts[name])
    if not isinstance(found, dict):
        raise ValueError(f"{name}: expected an object, got {type(found).__name__}")
    return found
