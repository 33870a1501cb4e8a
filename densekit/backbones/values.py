"""Refuses tensors whose values cannot be weights, before they become silently wrong ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LEARNT = (".weight", ".bias", ".running_mean", ".running_var")
"""Ends of names whose values are never integers."""


def check_values(where: str, state: Mapping[str, Tensor]) -> None:
    """Refuses tensors of a file that hold no finite floating-point numbers.

    A copy into a network drops imaginary parts, takes quantised integers for weights, and leaves
    the network as it was where a tensor has no values.

    Args:
        where: Beginning of the message.
        state: Tensors by name; integers are accepted where they count something.

    Raises:
        ValueError: Names the first such tensor.
    """
    for name, value in state.items():
        if found := _defect(name, value):
            raise ValueError(f"{where}: expected finite floating-point weights, got {found}")


def _defect(name: str, value: Tensor) -> str | None:
    if value.is_meta:
        return f"{name} without values (device meta)"
    if value.is_quantized or value.layout != torch.strided:
        return f"{name}, a quantised or sparse tensor"
    if value.dtype not in FLOATS:
        wrong = value.is_complex() or value.is_floating_point() or name.endswith(LEARNT)
        return f"{name} of type {value.dtype}".replace("torch.", "") if wrong else None
    return None if bool(value.isfinite().all()) else f"{name} with values that are not"
