"""Shared functions of pixel losses: targets, counted pixels, probabilities, recomputation.

B images, K classes, S the D sizes, P pixels of an image; M planes of the mask: 1, or K if it is
multi-label.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from densekit.types import IGNORE_INDEX


def flatten(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Flattens the pixels: logits (B, K, P) in their own dtype and the mask (B, M, P).

    Args:
        logits: (B, K, *S).
        mask: (B, *S) of classes, or of 0 and 1 if K is 1; (B, K, *S) of 0 and 1 if multi-label;
            255 is ignored.

    Raises:
        ValueError: The mask has another shape.
    """
    batch, sides = logits.shape[:1], logits.shape[2:]
    if mask.shape not in ((*batch, *sides), logits.shape):
        raise ValueError(
            f"mask: expected shape {(*batch, *sides)} of classes, or {tuple(logits.shape)} like the"
            f" logits if multi-label, got {tuple(mask.shape)}"
        )
    if mask.ndim < logits.ndim:
        mask = mask.unsqueeze(1)
    return logits.flatten(2), mask.flatten(2)


def exclusive(logits: Tensor, mask: Tensor) -> bool:
    """Whether classes are exclusive (softmax); otherwise each is independent (a sigmoid).

    Args:
        logits: (B, K, ...).
        mask: (B, M, ...).
    """
    return mask.shape[1] < logits.shape[1]


def full_precision(logits: Tensor) -> Tensor:
    """Converts logits to float32, whatever autocast chose; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    """Returns the softmax or sigmoid (B, K, P), in full precision."""
    logits = full_precision(logits)
    return logits.softmax(1) if exclusive(logits, mask) else logits.sigmoid()


def members(logits: Tensor, mask: Tensor) -> Tensor:
    """Returns (B, K, P) bool: whether a pixel belongs to a class; false where ignored."""
    if not exclusive(logits, mask):
        return mask == 1
    classes = torch.arange(logits.shape[1], dtype=mask.dtype, device=mask.device)
    return mask == classes[:, None]


def counted(mask: Tensor) -> Tensor:
    """Returns which pixels are not ignored, bool of the mask's shape."""
    return mask != IGNORE_INDEX


def recomputed(
    function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, mask: Tensor
) -> Tensor:
    """Returns `function(logits, mask)`, keeping only the two arguments for backward.

    Probabilities and their logarithms are as large as the logits, and every loss would keep its
    own. Recomputing them in backward costs one more pass over the logits, little beside a network,
    and any number of losses keeps only the one tensor they share.

    Args:
        function: Must have no collectives (backward calls it again) and no randomness; what it
            closes over is kept too.
        logits: (B, K, P).
        mask: (B, M, P).
    """
    result: Tensor = checkpoint(
        function, logits, mask, use_reentrant=False, preserve_rng_state=False
    )
    return result
