"""Probabilities of every pixel of one image, computed when a metric asks for them.

Shape letters: K classes, S the sides of the original image in the network's orientation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.axes import Axes, turned_view
from densekit.ops.interpolation import resize_linear

CHUNK = 1 << 24
"""Values that are interpolated at once (64 MB); a volume at its original size has many more."""


class PixelProbabilities:
    """The probabilities of a mask's pixels, row by row, so that they never stand in memory at once.

    Args:
        logits: (K, *s) without padding, in the network's frame.
        sides: S.
        multilabel: Whether the K classes are independent (a sigmoid each, as with K = 1) or
            exclusive (softmax).
        axes: How the image's own axes were turned, see `densekit.data.medical.axes`.
    """

    def __init__(
        self, logits: Tensor, sides: tuple[int, ...], multilabel: bool, axes: Axes | None = None
    ) -> None:
        self.logits, self.sides, self.axes = logits, sides, axes
        self.multilabel = multilabel

    def view(self, mask: NDArray[Any]) -> NDArray[Any]:
        """A mask (*S) or (..., *S) of the image as `parts` counts its rows; writing goes through.

        Args:
            mask: In the image's own frame.
        """
        return turned_view(mask, self.axes, mask.ndim - len(self.sides))

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Yields the next rows of the first axis, and their probabilities (K, n, *S[1:])."""
        for rows, logits in rows_of_logits(self.logits, self.sides):
            if self.multilabel or len(logits) == 1:
                yield rows, logits.float().sigmoid()
            else:
                yield rows, logits.float().softmax(0)


def rows_of_logits(logits: Tensor, sides: tuple[int, ...]) -> Iterator[tuple[slice, Tensor]]:
    """Interpolates logits to another size, some rows of the first axis at a time.

    Args:
        logits: (K, *s).
        sides: S.

    Yields:
        The rows, and their logits (K, n, *S[1:]).
    """
    step = max(1, CHUNK // max(1, len(logits) * math.prod(sides[1:])))
    for start in range(0, sides[0], step):
        stop = min(start + step, sides[0])
        yield slice(start, stop), _interpolated(logits, sides, start, stop)


def _interpolated(logits: Tensor, size: tuple[int, ...], start: int, stop: int) -> Tensor:
    """Rows start..stop of the logits at a new size: (K, stop - start, *size[1:])."""
    if tuple(logits.shape[1:]) == tuple(size):
        return logits[:, start:stop]
    if stop - start == size[0]:
        return resize_linear(logits[None].float(), size)[0]
    # Linear interpolation is separable: the first axis comes first, for the requested rows only.
    length = logits.shape[1]
    at = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (length / size[0]) - 0.5
    at = at.clamp(0, length - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=length - 1)
    weight = (at - low).to(logits.device, torch.float32).view(1, -1, *[1] * (len(size) - 1))
    low, high = low.to(logits.device), high.to(logits.device)
    first, second = logits.index_select(1, low).float(), logits.index_select(1, high).float()
    rows = torch.lerp(first, second, weight)  # (K, n, *S[1:])
    if len(size) == 1:
        return rows
    return resize_linear(rows.movedim(1, 0), size[1:]).movedim(0, 1)
