"""Reads the tensors of any library's file; nothing in it is run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from densekit.artifact import BrokenCheckpointError, read_checkpoint
from densekit.backbones.unwrapping import tensors_of
from densekit.interop.openmmlab import Recipe, read_beside_objects, recipe_of
from densekit.interop.pickled import read_pickle


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a file; see `read_source`."""
    return read_source(path)[0]


def read_source(path: str | Path) -> tuple[dict[str, Tensor], Recipe]:
    """Reads the tensors of a state dict file, or of a training's checkpoint, and its recipe.

    Args:
        path: File of `torch.save` or safetensors, or a pickle of arrays, as in detectron2's zoo.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is truncated, holds a pickled module, or no tensors by name.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a file, got none there")
    content = _content(file)
    tensors = tensors_of(content)
    if not tensors:
        keys = ", ".join(sorted(map(str, content))[:6]) or "nothing"
        raise ValueError(f"{file}: expected tensors by name, got {keys}")
    return tensors, recipe_of(content.get("meta"))


def _content(file: Path) -> Mapping[Any, Any]:
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file}: expected a safetensors file, got: {error}") from error
    if file.suffix == ".pkl":
        content = read_pickle(file)
        return content if isinstance(content, Mapping) else {}
    try:
        return read_checkpoint(file)
    except ValueError as error:
        with suppress(ValueError):
            content = read_beside_objects(file)
            if tensors_of(content):
                return content
        if isinstance(error, BrokenCheckpointError):
            raise
        raise ValueError(
            f"{file}: expected tensors by name, got other objects, such as a pickled module, which"
            " runs code when it is loaded; where it was made, save its state dict:"
            " torch.save(model.state_dict(), FILE)"
        ) from error
