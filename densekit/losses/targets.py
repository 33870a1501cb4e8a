"""What every loss reads off logits and masks: who is meant to be on, and which pixels count.

B images, K classes, S the D sizes, P pixels of an image; M planes of the mask: 1, or K where it is
multi-label.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from densekit.types import IGNORE_INDEX


def flatten(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K, P) in their own dtype and the mask (B, M, P).

    Args:
        logits: (B, K, *S).
        mask: (B, *S) classes, or 0 and 1 where K is 1; (B, K, *S) of 0 and 1 if multi-label; 255
            where nothing is counted.

    Raises:
        ValueError: If the mask has another shape.
    """
    batch, sides = logits.shape[:1], logits.shape[2:]
    if mask.shape not in ((*batch, *sides), logits.shape):
        raise ValueError(
            f"mask: found shape {tuple(mask.shape)}, accepted is {(*batch, *sides)} of classes or"
            f" multi-label {tuple(logits.shape)}, as the logits are"
        )
    if mask.ndim < logits.ndim:
        mask = mask.unsqueeze(1)
    return logits.flatten(2), mask.flatten(2)


def exclusive(logits: Tensor, mask: Tensor) -> bool:
    """Whether a pixel has one class of several (softmax); otherwise every logit is a sigmoid's.

    Args:
        logits: (B, K, ...).
        mask: (B, M, ...).
    """
    return mask.shape[1] < logits.shape[1]


def full_precision(logits: Tensor) -> Tensor:
    """Float32, whatever autocast chose; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, K, P) softmax or sigmoid, in full precision."""
    logits = full_precision(logits)
    return logits.softmax(1) if exclusive(logits, mask) else logits.sigmoid()


def members(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, K, P) bool: whether the pixel belongs to the class; false where ignored."""
    if not exclusive(logits, mask):
        return mask == 1
    classes = torch.arange(logits.shape[1], dtype=mask.dtype, device=mask.device)
    return mask == classes[:, None]


def counted(mask: Tensor) -> Tensor:
    """Where the mask says something, in the mask's shape, bool."""
    return mask != IGNORE_INDEX


def recomputed(
    function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, mask: Tensor
) -> Tensor:
    """`function(logits, mask)`, of which nothing but the two arguments is kept for the backward.

    Probabilities and their logarithms are as large as the logits, and every loss would keep its
    own. Made anew in the backward they cost one more pass over the logits, little beside a network,
    and any number of losses keeps the one tensor they share.

    Args:
        function: Without collectives (the backward calls it again) and without randomness; what it
            closes over is kept too.
        logits: (B, K, P).
        mask: (B, M, P).
    """
    result: Tensor = checkpoint(
        function, logits, mask, use_reentrant=False, preserve_rng_state=False
    )
    return result
