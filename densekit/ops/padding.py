"""Padding: images of different sizes in frames of one size, each at the origin.

Shape letters: B images, S the sides of the frame along the D last axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor


def corner(sides: Iterable[int]) -> tuple[Any, ...]:
    """Returns the index of an image of these sides in its frame (..., *S), without the padding."""
    return (..., *map(slice, sides))


def window_at(start: Iterable[int], sides: Iterable[int]) -> tuple[Any, ...]:
    """Returns the index of a window, given its start and its length along each axis."""
    return tuple(slice(s, s + side) for s, side in zip(start, sides, strict=True))


def pad_end(x: Tensor, more: Sequence[int], value: float = 0) -> Tensor:
    """Pads the ends of the last axes.

    Args:
        x: (..., *S).
        more: Number of elements to append to each of the D last axes.
        value: Value of the padding.
    """
    return F.pad(x, [side for behind in reversed(more) for side in (0, behind)], value=value)


def stack_padded(images: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Stacks images (C, ...) of different sizes to (B, C, *S), padded with zeros.

    Args:
        images: B images of the same number of channels and the same dtype.
        sides: S, at least the sides of every image.
    """
    out = images[0].new_zeros((len(images), len(images[0]), *sides))
    for frame, image in zip(out, images, strict=True):
        frame[corner(image.shape[1:])] = image
    return out


def largest_sides(sizes: Iterable[Sequence[int]]) -> list[int]:
    """Returns the sides of the smallest frame that holds images of these sizes."""
    return [max(sides) for sides in zip(*sizes, strict=True)]
