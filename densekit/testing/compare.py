"""Compares nested values: samples, ground truth and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor


def difference(first: Any, second: Any, key: str = "") -> str:
    """Returns the key at which two nested values first differ, empty if they are equal.

    Arrays and tensors are equal if dtype, shape and values are; NaN equals NaN. Objects are
    compared by their attributes.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if list(first) != list(second):
            return key or f"the keys {sorted(map(str, set(first) ^ set(second)))}"
        pairs = [(str(name), first[name], second[name]) for name in first]
    elif _is_list(first) and _is_list(second) and len(first) == len(second):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(first, second, strict=True))]
    elif type(first) is type(second) and _is_object(first):
        return difference(vars(first), vars(second), key)
    else:
        return "" if _equal(first, second) else key or "the value"
    within = (difference(a, b, f"{key}.{name}" if key else name) for name, a, b in pairs)
    return next((found for found in within if found), "")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_object(value: Any) -> bool:
    is_array = isinstance(value, Tensor | np.ndarray)  # np.memmap has attributes of its own
    return hasattr(value, "__dict__") and not is_array


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        first = first.detach().cpu().numpy()
    if isinstance(second, Tensor):
        second = second.detach().cpu().numpy()
    if not isinstance(first, np.ndarray | np.generic | float):
        return type(first) is type(second) and bool(first == second)
    a, b = np.asarray(first), np.asarray(second)
    floating = np.issubdtype(a.dtype, np.inexact)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=floating)
