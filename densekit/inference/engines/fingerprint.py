"""Digests of what a compiled engine depends on: the model's weights and settings, and the code."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import densekit
from densekit.model import DenseModel

TRACED = ("backbones", "heads", "inference/engines", "inference/export", "necks", "ops")
"""Folders of densekit whose code may become part of a compiled engine."""
FILES = ("inference/fold.py", "layers.py", "model.py")
LENGTH = 32


def model_digest(model: DenseModel) -> str:
    """Digest of the weights, buffers and settings of a model, such as its score threshold."""
    digest = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        value = _channels_last(tensor.detach().cpu())
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    for name, module in model.named_modules():
        settings = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        digest.update(f"{name} {type(module).__qualname__} {_plain(settings)}".encode())
    return digest.hexdigest()[:LENGTH]


def code_digest(model: DenseModel) -> str:
    """Digest of the source files that compute a model's predictions, plug-ins' included."""
    package = Path(densekit.__file__).parent
    files = {file for folder in TRACED for file in (package / folder).rglob("*.py")}
    files |= {package / file for file in FILES}
    files |= set(_files_of({type(module) for module in model.modules()}))
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:LENGTH]


def _channels_last(value: Tensor) -> Tensor:
    """Returns (o, *k, i) of weights (o, i, *k), in this order in memory as most of them are."""
    return (value.movedim(1, -1) if value.ndim > 2 else value).contiguous()


def _files_of(classes: Iterable[type]) -> Iterator[Path]:
    """The files of classes outside torch, whose version is a part of the key of its own."""
    for one in classes:
        if one.__module__.partition(".")[0] != "torch" and (file := inspect.getsourcefile(one)):
            yield Path(file)


def _plain(value: Any) -> str:
    """The text of a setting; empty for objects whose text differs from process to process."""
    if isinstance(value, Mapping):
        return str(sorted((str(key), _plain(one)) for key, one in value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_plain(one) for one in value]
        return str(sorted(parts) if isinstance(value, set | frozenset) else parts)
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__qualname__} {_plain(asdict(value))}"
    if isinstance(value, partial):
        return f"{_plain(value.func)} {_plain(value.args)} {_plain(value.keywords)}"
    if isinstance(value, bool | int | float | str | torch.dtype | None):
        return repr(value)
    return getattr(value, "__qualname__", "")
