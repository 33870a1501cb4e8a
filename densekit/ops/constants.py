"""Tensors that follow from shapes alone: made once, and never kept by a program that is traced."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value", bound=Tensor | tuple[Tensor, ...])
KEPT = 64
"""Results of a function that are kept; the oldest makes place."""


def constant(make: Callable[..., Value]) -> Callable[..., Value]:
    """Keeps what a function has made of its arguments.

    While torch traces (export, compile) the function runs as part of the program: what it makes
    there belongs to that program, and nobody else may meet it. What is kept may take part in
    training, also if it was first needed under `torch.inference_mode`.

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
    """Whether they are tensors with values, none that a mode of torch has put in their place."""
    tensors = (made,) if isinstance(made, Tensor) else made
    return all(type(tensor) is Tensor for tensor in tensors)
