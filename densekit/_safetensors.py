"""An artifact as a safetensors file: tensors, and what else it holds as text in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

SUFFIX = ".safetensors"
CONFIG, INFO, EXTRA = "densekit.config", "densekit.info", "densekit.extra_state"
"""Keys of the metadata; `EXTRA` holds plain values that modules store beside their tensors."""


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is in this format, by its suffix."""
    return Path(path).suffix == SUFFIX


def write_safetensors(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `state_dict`, `config` and `info`.

    Raises:
        ValueError: A value is neither a tensor nor plain, so that JSON cannot hold it.
    """
    state: Mapping[str, Any] = content["state_dict"]
    extra = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    # Tensors that share memory or lie in another order are not accepted.
    tensors = {
        name: state[name].detach().contiguous().clone() for name in state if name not in extra
    }
    try:
        metadata = {
            "format": "pt",
            CONFIG: content["config"],
            INFO: json.dumps(content["info"]),
            EXTRA: json.dumps(extra),
        }
    except TypeError as error:
        raise ValueError(
            f"{path.name}: expected plain values beside the tensors, got: {error}; write a .ckpt"
        ) from error
    path.write_bytes(save(tensors, metadata))  # `save_file` makes it private to its user


def read_safetensors(path: Path) -> dict[str, Any]:
    """Reads what `write_safetensors` wrote; of other files only `state_dict`.

    Raises:
        SafetensorError: The file is damaged.
        ValueError: The metadata are not JSON.
    """
    with safe_open(path, framework="pt") as file:
        state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    content: dict[str, Any] = {"state_dict": state}
    try:
        if CONFIG in metadata and INFO in metadata:
            content |= {"config": metadata[CONFIG], "info": json.loads(metadata[INFO])}
            state |= json.loads(metadata.get(EXTRA, "{}"))
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"checkpoint {path}: expected JSON metadata, got: {error}") from error
    return content
