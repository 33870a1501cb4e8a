"""Shapes that programs are compiled for: the frames to which the model pads images anyway.

A frame's sides are multiples of `DenseModel.size_divisor`, so a program serves all sizes in between
and computes what the model computes. A larger frame would not: features near the right and bottom
borders of an image see other values beyond them.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from densekit.ops.padding import pad_end
from densekit.types import Predictions

Shape = tuple[int, ...]
"""(B, *S)."""


def bucket_of(shape: Shape, known: Sequence[Shape], divisor: int) -> Shape:
    """Returns the shape of the program for a batch.

    Args:
        shape: B and the sides of the batch.
        known: Shapes of programs that exist; one with the same sides and more images is taken, so
            that the last batch of a run needs no program of its own.
        divisor: `DenseModel.size_divisor`.
    """
    images, *sides = shape
    frame = [-(-side // divisor) * divisor for side in sides]
    larger = [one for one in known if list(one[1:]) == frame and one[0] >= images]
    return min(larger, default=(images, *frame))


def fill(image: Tensor, size: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Pads a batch to a shape, with zeros and with images of one pixel.

    Args:
        image: (B, C, *S).
        size: (B, D) int64.
        shape: Of the result, nothing smaller.
    """
    more = [side - old for side, old in zip(shape[1:], image.shape[2:], strict=True)]
    if any(more):
        image = pad_end(image, more)
    if (missing := shape[0] - len(image)) > 0:
        image = torch.cat([image, image.new_zeros((missing, *image.shape[1:]))])
        size = torch.cat([size, size.new_ones((missing, size.shape[1]))])
    return image, size


def cut(predictions: Mapping[str, Predictions], images: int) -> dict[str, Predictions]:
    """Returns the predictions of the first `images`, without those that `fill` added."""
    return {
        head: {key: value[:images] for key, value in of_head.items()}
        for head, of_head in predictions.items()
    }
