"""Online hard example mining: which pixels are worth learning from.

Shapes are those of the loss, any.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Mining = Callable[[Tensor, Tensor], Tensor]
"""The loss of every pixel and which are counted (bool) to which of those are kept (bool)."""


class HardestFraction:
    """Keeps the pixels with the largest loss (Shrivastava et al. 2016; nnU-Net's top-k loss).

    The share is of the counted pixels of the batch of one process; equal losses at the limit are
    kept together.

    Args:
        fraction: Share of the pixels, above 0 and at most 1.

    Raises:
        ValueError: For a fraction outside.
    """

    def __init__(self, fraction: float) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"HardestFraction.fraction: above 0, at most 1, found {fraction}")
        self.fraction = fraction

    def __call__(self, loss: Tensor, counted: Tensor) -> Tensor:
        """Which pixels to keep."""
        wanted = (counted.sum() * self.fraction).round().clamp(min=1).long()
        return counted & (loss >= _nth_largest(loss, counted, wanted))


class HardPixels:
    """Keeps pixels whose class has too small a probability, and some in any case.

    As in bootstrapping for semantic segmentation (Wu et al. 2016, section 3.3; the OHEM of PSPNet's
    and mmsegmentation's training).

    Args:
        probability: Pixels whose own class has less than this are kept.
        min_kept: Fewest pixels kept, per image; drawn from the batch of one process together, the
            hardest first.

    Raises:
        ValueError: For a probability outside 0..1 or a negative count.
    """

    def __init__(self, probability: float = 0.7, min_kept: int = 10_000) -> None:
        if not 0 < probability <= 1:
            raise ValueError(f"HardPixels.probability: above 0, at most 1, found {probability}")
        if min_kept < 0:
            raise ValueError(f"HardPixels.min_kept: 0 or more, found {min_kept}")
        self.probability = probability
        self.min_kept = min_kept

    def __call__(self, loss: Tensor, counted: Tensor) -> Tensor:
        """Which pixels to keep."""
        hard = loss > -math.log(self.probability)
        if self.min_kept:
            wanted = torch.tensor(self.min_kept * len(loss), device=loss.device)
            hard = hard | (loss >= _nth_largest(loss, counted, wanted))
        return counted & hard


def _nth_largest(loss: Tensor, counted: Tensor, count: Tensor) -> Tensor:
    """(1,) the count-th largest of the counted losses, below all if there are fewer."""
    ordered = loss.masked_fill(~counted, -torch.inf).flatten().sort(descending=True).values
    place = (count - 1).clamp(max=len(ordered) - 1)
    return ordered.index_select(0, place.view(1))  # no index on the host: nothing waits for the GPU
