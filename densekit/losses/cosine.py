"""Cosines between embeddings and class centres, and angles with finite slopes at 0 and pi.

G embeddings, K classes, E the embedding size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.losses.targets import full_precision

_SHORTEST = 1e-6
_SMALLEST = 1e-12
"""Lower bound of a squared sine, as the slope of a square root at 0 is infinite."""


def unit_length(x: Tensor) -> Tensor:
    """Scales rows (G, E) to unit length, in float32 even under autocast; float64 stays.

    A row too short to have a direction becomes 0 and gets no gradient; dividing by its length would
    give a gradient of 1e12.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = full_precision(x)
        length = x.norm(dim=1, keepdim=True)
        return torch.where(length > _SHORTEST, x / length.clamp(min=_SHORTEST), 0.0)


def cosine_logits(embedding: Tensor, centres: Tensor) -> Tensor:
    """Returns cosines (G, K) in -1..1, in float32 even under autocast; float64 stays.

    Args:
        embedding: (G, E), of any length.
        centres: (K, E), of any length.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        centres = full_precision(centres)
        # The products are divided, not the centres: of those there may be millions, and a copy of
        # them would be kept for backward.
        length = centres.norm(dim=1)  # (K,)
        factor = torch.where(length > _SHORTEST, 1 / length.clamp(min=_SHORTEST), 0.0)
        return (F.linear(unit_length(embedding), centres) * factor).clamp(-1, 1)  # (G, K)


def angle(cosine: Tensor) -> Tensor:
    """Returns the angle in 0..pi, with a finite slope at both ends, unlike arccos."""
    sine = (1 - cosine.square()).clamp(min=_SMALLEST).sqrt()
    return torch.atan2(sine, cosine)


def widened_cosine(cosine: Tensor, factor: Tensor | float, margin: Tensor | float) -> Tensor:
    """Returns cos(factor * theta + margin), decreasing even where the angle exceeds pi.

    There the cosine would rise again and reward the worst embeddings. It is continued as in
    SphereFace (Liu et al. 2017, equation 5): (-1)^k cos(angle) - 2k, with k = floor(angle / pi).

    Args:
        cosine: Cosine of theta, any shape.
        factor: Factor of the angle, above 0.
        margin: Added to the angle, in radians.
    """
    widened = factor * angle(cosine) + margin
    k = (widened.detach() / math.pi).floor()
    return (1 - 2 * (k % 2)) * widened.cos() - 2 * k
