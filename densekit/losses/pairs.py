"""What losses over pairs of a batch share.

G embeddings, E their size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.ops.dist import SMALLEST_COUNT


def pair_masks(identity: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """(G, G) bool: pairs of one identity without those of an image with itself, and of two.

    Args:
        identity: (G,) int64.
        valid: (G,) bool; the others are in no pair.
    """
    both = valid[:, None] & valid
    same = identity[:, None] == identity
    itself = torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    return same & both & ~itself, ~same & both


def masked_mean(value: Tensor, counted: Tensor) -> Tensor:
    """The mean of the counted values, 0 with a gradient of 0 without any."""
    return value.where(counted, 0.0).sum() / counted.sum().clamp(min=SMALLEST_COUNT)
