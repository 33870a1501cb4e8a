"""Cosines of embeddings and class centres, and angles that stay finite at 0 and pi.

G embeddings, K classes, E the size of an embedding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.losses.targets import full_precision

_SHORTEST = 1e-6
_SMALLEST = 1e-12
"""Square of a sine below which it counts as this: the slope of a root at 0 is infinite."""


def unit_length(x: Tensor) -> Tensor:
    """(G, E) rows of length 1, in float32 whatever autocast says; float64 stays.

    A row too short to have a direction becomes 0 and gets no gradient, where dividing by its length
    would give one of 1e12.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = full_precision(x)
        length = x.norm(dim=1, keepdim=True)
        return torch.where(length > _SHORTEST, x / length.clamp(min=_SHORTEST), 0.0)


def cosine_logits(embedding: Tensor, centres: Tensor) -> Tensor:
    """(G, K) cosines in -1..1, in float32 whatever autocast says; float64 stays.

    Args:
        embedding: (G, E), of any length.
        centres: (K, E), of any length.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        centres = full_precision(centres)
        # The products are divided, not the centres: there may be millions, and a copy of them would
        # be kept for backward.
        length = centres.norm(dim=1)  # (K,)
        factor = torch.where(length > _SHORTEST, 1 / length.clamp(min=_SHORTEST), 0.0)
        return (F.linear(unit_length(embedding), centres) * factor).clamp(-1, 1)  # (G, K)


def angle(cosine: Tensor) -> Tensor:
    """The angle in 0..pi; its slope is finite at both ends, where that of arccos is not."""
    sine = (1 - cosine.square()).clamp(min=_SMALLEST).sqrt()
    return torch.atan2(sine, cosine)


def widened_cosine(cosine: Tensor, factor: Tensor | float, margin: Tensor | float) -> Tensor:
    """cos(factor * theta + margin), falling on where the angle passes pi.

    There the cosine would rise again and reward the worst embeddings. It is continued as SphereFace
    does (Liu et al. 2017, equation 5): (-1)^k cos(angle) - 2k with k the whole number of pi in the
    angle.

    Args:
        cosine: Of theta, any shape.
        factor: Multiplies the angle, above 0.
        margin: Added to the angle, radians.
    """
    widened = factor * angle(cosine) + margin
    k = (widened.detach() / math.pi).floor()
    return (1 - 2 * (k % 2)) * widened.cos() - 2 * k
