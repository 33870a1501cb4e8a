"""Random numbers as a pure function of integers, the same on every device and every rank.

The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014) in wrapping int64 arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_M1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_M2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: `>>` on int64 would copy the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(*keys: int | Tensor) -> Tensor:
    """Hashes integers into one int64 tensor, elementwise with broadcasting.

    Args:
        keys: Python integers or int64 tensors, at least one; their order matters.
    """
    device = next((key.device for key in keys if isinstance(key, Tensor)), None)
    state = torch.zeros((), dtype=torch.int64, device=device)
    for key in keys:
        state = (state ^ key) * _M1 + _GOLDEN
        state = (state ^ _shift(state, 30)) * _M1
        state = (state ^ _shift(state, 27)) * _M2
        state = state ^ _shift(state, 31)
    return state


def uniform(key: Tensor, count: int) -> Tensor:
    """Draws `count` numbers in [0, 1) for each key.

    Args:
        key: (B,) int64.
        count: Draws per key; draw j depends on the key and j alone.

    Returns:
        (B, count) float32, multiples of 2^-24.
    """
    counter = torch.arange(count, device=key.device)
    return _shift(mix(key[:, None], counter), 40).float() * 2.0**-24
