"""Shared functions of losses over pairs of a batch.

G embeddings, E their size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.ops.dist import SMALLEST_COUNT


def pair_masks(identity: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Returns masks (G, G) bool: pairs of one identity without the diagonal, and pairs of two.

    Args:
        identity: (G,) int64.
        valid: (G,) bool; other rows are in no pair.
    """
    both = valid[:, None] & valid
    same = identity[:, None] == identity
    itself = torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    return same & both & ~itself, ~same & both


def masked_mean(value: Tensor, counted: Tensor) -> Tensor:
    """Returns the mean of the counted values; without any it is 0, with zero gradients."""
    return value.where(counted, 0.0).sum() / counted.sum().clamp(min=SMALLEST_COUNT)
