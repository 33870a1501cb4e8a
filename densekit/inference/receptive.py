"""Measures a network's receptive field: the margin that a tile needs around it.

Shape letters: B images, C channels, K classes, H and W the sides of an image.
"""

from __future__ import annotations

from math import ceil, lcm

import torch
from torch import Tensor

from densekit.inference.inferer import logits_of
from densekit.model import DenseModel

FIRST_PROBE, LAST_PROBE = 1024, 8192
"""Pixels along the probed axis, doubled up to the last while the network sees beyond half of it."""


def stride_of(model: DenseModel) -> int:
    """Least common multiple of the strides of all levels; windows start at multiples of it."""
    specs = model.backbone.features.values()
    return lcm(model.size_divisor, *(stride for spec in specs for stride in spec.stride))


@torch.inference_mode()
def receptive_margin(model: DenseModel) -> int | None:
    """Width in pixels of the border around a tile that its logits depend on.

    A stripe of the image is set to NaN, which every layer that reads it passes on, whatever its
    weights: logits are NaN as far as the receptive field reaches.

    Args:
        model: For 2-D images, in eval mode; its heads return logits.

    Returns:
        A multiple of `stride_of`; None if the stripe reaches every pixel, as through global pooling
        or the statistics of an instance norm: then no margin is large enough.

    Raises:
        ValueError: A head returns no logits.
    """
    stride = stride_of(model)
    length = FIRST_PROBE
    while length <= LAST_PROBE:
        reach = [_reach(model, axis, ceil(length / stride) * stride, stride) for axis in (0, 1)]
        if max(reach) < length // 2 - stride:
            return ceil(max(reach) / stride) * stride
        length *= 2
    return None


def _reach(model: DenseModel, axis: int, length: int, stride: int) -> int:
    """Number of NaN pixels before or behind the stripe, the larger of the two."""
    sides = [length if n == axis else stride for n in (0, 1)]
    middle = length // 2 // stride * stride
    image = model.mean.new_zeros((1, model.mean.shape[1], *sides))
    image.narrow(2 + axis, middle, stride).fill_(torch.nan)
    size = torch.tensor([sides], device=image.device)
    predict = type(model).predict  # not an engine's, which would be built for this shape
    # Algorithms that work in the frequency domain would spread NaN over the whole image.
    with torch.backends.cudnn.flags(enabled=False):
        found = logits_of(predict(model, {"image": image, "size": size}), "predict_tiles")
    return max(_spread(logits, axis, middle, stride) for _, logits in found.values())


def _spread(logits: Tensor, axis: int, middle: int, stride: int) -> int:
    touched = logits.isnan().flatten(0, 1).any(0).any(1 - axis).nonzero()[:, 0]
    assert len(touched), "the logits do not depend on the image"
    return max(0, middle - int(touched[0]), int(touched[-1]) + 1 - middle - stride)
