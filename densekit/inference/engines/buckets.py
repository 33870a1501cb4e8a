"""Shapes that programs are compiled for: a few frames, which hold the images of a batch.

Heads that predict boxes are trained on images padded to common frames, and told their `size`; so
for them a frame is rounded up and one program serves many sizes. Padding an image there does what
batching it with a larger one does: features near its right and bottom borders see other values
beyond the border. No frame is rounded up for heads of masks, classes and embeddings, whose
references never pad: their images keep their own sides.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from densekit.model import DenseModel
from densekit.ops.padding import corner, pad_end
from densekit.types import Predictions

STEP = 64
"""Sides of a rounded frame are multiples of it."""

Shape = tuple[int, ...]
"""(B, *S)."""


def is_rounded(model: DenseModel) -> bool:
    """Whether frames of a model may be rounded up: every head predicts boxes."""
    return bool(model.heads) and all("boxes" in head.target_keys for head in model.heads.values())


def bucket_of(shape: Shape, known: Sequence[Shape], *, rounded: bool) -> Shape:
    """Returns the shape of the program for a batch.

    Args:
        shape: B and the sides of the batch.
        known: Shapes of programs that exist; one with the same sides and more images is taken, so
            that the last batch of a run needs no program of its own.
        rounded: Whether the sides may be rounded up.
    """
    images, *sides = shape
    frame = [-(-side // STEP) * STEP for side in sides] if rounded else sides
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


def cut(
    predictions: Mapping[str, Predictions], shape: Shape, bucket: Shape, divisor: int
) -> dict[str, Predictions]:
    """Undoes `fill` on predictions: drops the additional images, and the padding of maps.

    Args:
        predictions: Of the filled batch.
        shape: B and the sides of the batch.
        bucket: B and the sides of the filled batch.
        divisor: `DenseModel.size_divisor`, to which the network pads both.
    """
    images, *sides = shape
    old, new = ([-(-side // divisor) * divisor for side in s] for s in (bucket[1:], sides))

    def one(value: Tensor) -> Tensor:
        value = value[:images]
        return value[corner(new)] if list(value.shape[2:]) == old else value

    return {
        head: {key: one(value) for key, value in of_head.items()}
        for head, of_head in predictions.items()
    }
