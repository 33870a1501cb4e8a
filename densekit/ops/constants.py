"""Cache of tensors that depend on shapes alone, bypassed while torch traces."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value", bound=Tensor | tuple[Tensor, ...])
KEPT = 64
"""Most results cached per function; the oldest is dropped first."""


def constant(make: Callable[..., Value]) -> Callable[..., Value]:
    """Caches the results of a function by its arguments.

    While torch traces (export, compile) the function runs as part of the program: its result
    belongs to that program and is not cached. Cached tensors can be used in training, even if they
    were first created under `torch.inference_mode`.

    Args:
        make: Takes hashable positional arguments, the device among them; returns tensors that
            nobody writes into.
    """
    kept: dict[tuple[Any, ...], Value] = {}

    @wraps(make)
    def call(*arguments: Any) -> Value:
        if torch.compiler.is_compiling():
            return make(*arguments)
        found = kept.get(arguments)
        if found is None:
            with torch.inference_mode(False):
                found = make(*arguments)
            if _are_plain(found):
                if len(kept) >= KEPT:
                    kept.pop(next(iter(kept)), None)
                kept[arguments] = found
        return found

    return call


def _are_plain(made: Tensor | tuple[Tensor, ...]) -> bool:
    """Whether these are ordinary tensors, not subclasses such as fake or functional ones."""
    tensors = (made,) if isinstance(made, Tensor) else made
    return all(type(tensor) is Tensor for tensor in tensors)
