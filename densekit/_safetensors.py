"""An artifact as a safetensors file: tensors, and what else it holds as text in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

SUFFIX = ".safetensors"
CONFIG, INFO, EXTRA = "densekit.config", "densekit.info", "densekit.extra_state"
"""Keys of the metadata; `EXTRA` holds plain values that modules store beside their tensors."""
CHECKSUM = "densekit.crc32"
"""Key of the checksum of the tensors and of the three texts, which the format itself lacks."""


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
    metadata[CHECKSUM] = _checksum(tensors, metadata)
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
    if CONFIG in metadata and _checksum(state, metadata) != metadata.get(CHECKSUM):
        raise SafetensorError("content that differs from its checksum")
    try:
        if CONFIG in metadata and INFO in metadata:
            content |= {"config": metadata[CONFIG], "info": json.loads(metadata[INFO])}
            state |= json.loads(metadata.get(EXTRA, "{}"))
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"checkpoint {path}: expected JSON metadata, got: {error}") from error
    return content


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32 of names, types, shapes and values, and of the texts."""
    texts = [metadata.get(key, "") for key in (CONFIG, INFO, EXTRA)]
    found = crc32(json.dumps(texts).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found = crc32(f"{name} {value.dtype} {list(value.shape)}".encode(), found)
        found = crc32(value.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"
