"""Online hard example mining: selection of the pixels that enter the loss.

All tensors have the shape of the pixelwise loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from densekit.ops import dist

Mining = Callable[[Tensor, Tensor], Tensor]
"""Takes the loss of every pixel and which pixels count (bool); returns which are kept (bool)."""


class HardestFraction:
    """Keeps the pixels with the largest loss (Shrivastava et al. 2016; nnU-Net's top-k loss).

    The fraction is of the counted pixels of one process's batch; pixels that tie at the threshold
    are all kept.

    Args:
        fraction: Fraction of the pixels, in (0, 1].

    Raises:
        ValueError: The fraction is out of range.
    """

    def __init__(self, fraction: float) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(
                f"HardestFraction.fraction: expected a number in (0, 1], got {fraction}"
            )
        self.fraction = fraction

    def __call__(self, loss: Tensor, counted: Tensor) -> Tensor:
        """Returns which pixels to keep."""
        every, of_batch = dist.rows_of_batch(loss), dist.rows_of_batch(counted)
        wanted = (of_batch.sum() * self.fraction).round().clamp(min=1).long()
        return counted & (loss >= _nth_largest(every, of_batch, wanted))


class HardPixels:
    """Keeps the pixels whose true class has a low probability, and a minimum number of pixels.

    As in bootstrapping for semantic segmentation (Wu et al. 2016, section 3.3; the OHEM of PSPNet
    and mmsegmentation).

    Args:
        probability: Pixels whose true class has a lower probability are kept, in (0, 1].
        min_kept: Fewest pixels kept, per image on average: the hardest of one process's batch.

    Raises:
        ValueError: The probability is out of range or the count negative.
    """

    def __init__(self, probability: float = 0.7, min_kept: int = 10_000) -> None:
        if not 0 < probability <= 1:
            raise ValueError(
                f"HardPixels.probability: expected a number in (0, 1], got {probability}"
            )
        if min_kept < 0:
            raise ValueError(f"HardPixels.min_kept: expected at least 0, got {min_kept}")
        self.probability = probability
        self.min_kept = min_kept

    def __call__(self, loss: Tensor, counted: Tensor) -> Tensor:
        """Returns which pixels to keep."""
        hard = loss > -math.log(self.probability)
        if self.min_kept:
            every, of_batch = dist.rows_of_batch(loss), dist.rows_of_batch(counted)
            wanted = torch.tensor(self.min_kept * len(every), device=loss.device)
            hard = hard | (loss >= _nth_largest(every, of_batch, wanted))
        return counted & hard


def _nth_largest(loss: Tensor, counted: Tensor, count: Tensor) -> Tensor:
    """The count-th largest of the counted losses, (1,); lower than all if there are fewer."""
    ordered = loss.masked_fill(~counted, -torch.inf).flatten().sort(descending=True).values
    index = (count - 1).clamp(max=len(ordered) - 1)
    return ordered.index_select(0, index.view(1))  # an index on the host would wait for the GPU
