"""Sampling of a fixed number of positive and negative rows, with static shapes.

Shape letters: B images, A candidates, N samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.ops.hash import uniform
from densekit.ops.matching import NEGATIVE, POSITIVE


def sample_balanced(
    label: Tensor, key: Tensor, count: int, positive_fraction: float
) -> tuple[Tensor, Tensor]:
    """Samples rows uniformly, positives first, as in Fast R-CNN (Girshick 2015, section 2.3).

    Takes min(#positive, int(count * positive_fraction)) positives and fills up with negatives;
    remaining slots are invalid. No synchronisation with the host.

    Args:
        label: (B, A) int8, see `densekit.ops.matching`.
        key: (B,) int64 random key of each image.
        count: N.
        positive_fraction: Largest share of positives, in 0..1.

    Returns:
        Indices (B, N) int64 into A, and which slots are valid, (B, N) bool.
    """
    draw = uniform(key, label.shape[1])  # (B, A)
    positive, negative = label == POSITIVE, label == NEGATIVE
    most = min(int(count * positive_fraction), label.shape[1])
    count_all = min(count, label.shape[1])
    positive_rows = draw.masked_fill(~positive, -1.0).topk(most, 1).indices
    negative_rows = draw.masked_fill(~negative, -1.0).topk(count_all, 1).indices
    num_positive = positive.sum(1, keepdim=True).clamp(max=most)  # (B, 1)
    num_negative = negative.sum(1, keepdim=True).clamp(max=count_all)

    slot = torch.arange(count, device=label.device)[None]  # (1, N)
    is_positive = slot < num_positive
    after = (slot - num_positive).clamp(min=0)
    valid = is_positive | (after < num_negative)
    from_negative = negative_rows.gather(1, after.clamp(max=count_all - 1))
    if most == 0:
        return from_negative, valid
    from_positive = positive_rows.gather(1, slot.clamp(max=most - 1).expand(len(label), -1))
    return torch.where(is_positive, from_positive, from_negative), valid
