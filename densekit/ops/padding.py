"""Images of different sizes in one frame: each in its corner, with padding behind it.

B the batch, S the sides of the frame along the D last axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor


def corner(sides: Iterable[int]) -> tuple[Any, ...]:
    """The index of an image of these sides in its frame (..., *S), which leaves its padding off."""
    return (..., *map(slice, sides))


def window_at(start: Iterable[int], sides: Iterable[int]) -> tuple[Any, ...]:
    """The index of a window by its first place and its length along each axis."""
    return tuple(slice(s, s + side) for s, side in zip(start, sides, strict=True))


def pad_end(x: Tensor, more: Sequence[int], value: float = 0) -> Tensor:
    """Pads behind the image.

    Args:
        x: (..., *S).
        more: How many places each of the D last axes gets.
        value: Of these places.
    """
    return F.pad(x, [side for behind in reversed(more) for side in (0, behind)], value=value)


def stack_padded(images: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """(B, C, *S) of images (C, ...) of different sizes, each in its corner, zero behind it.

    Args:
        images: B images of one number of channels and one type.
        sides: S, of which no image exceeds one.
    """
    out = images[0].new_zeros((len(images), len(images[0]), *sides))
    for frame, image in zip(out, images, strict=True):
        frame[corner(image.shape[1:])] = image
    return out


def largest_sides(sizes: Iterable[Sequence[int]]) -> list[int]:
    """The sides of the smallest frame that holds images of these sizes."""
    return [max(sides) for sides in zip(*sizes, strict=True)]
