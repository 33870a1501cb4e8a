"""How far a network looks: the margin that a tile needs around it.

Shape letters: B images, C channels, K classes, H and W the sides of a picture.
"""

from __future__ import annotations

from math import ceil, lcm

import torch
from torch import Tensor

from densekit.inference.inferer import logits_of
from densekit.model import DenseModel

FIRST_PROBE, LAST_PROBE = 1024, 8192
"""Pixels along the probed axis: a network that looks further than half of it is asked again."""


def stride_of(model: DenseModel) -> int:
    """Pixels after which the grids of all levels repeat: windows start at multiples of it."""
    specs = model.backbone.features.values()
    return lcm(model.size_divisor, *(stride for spec in specs for stride in spec.stride))


@torch.inference_mode()
def receptive_margin(model: DenseModel) -> int | None:
    """Pixels around a tile that its logits depend on, a multiple of `stride_of`.

    A stripe of the picture is set to NaN, which every layer that looks at it passes on, whatever
    its weights: how far the logits are NaN is how far the network looks.

    Args:
        model: For pictures, in eval mode; its heads give logits.

    Returns:
        None if a stripe reaches every pixel, as through global pooling or the statistics of an
        instance norm: no margin is large enough then.

    Raises:
        ValueError: A head gives no logits.
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
    """Pixels before or behind the stripe that are NaN, the larger of the two."""
    sides = [length if n == axis else stride for n in (0, 1)]
    middle = length // 2 // stride * stride
    image = model.mean.new_zeros((1, model.mean.shape[1], *sides))
    image.narrow(2 + axis, middle, stride).fill_(torch.nan)
    size = torch.tensor([sides], device=image.device)
    # Algorithms that work in the frequency domain would spread NaN over the whole picture.
    with torch.backends.cudnn.flags(enabled=False):
        found = logits_of(model.predict({"image": image, "size": size}), "predict_tiles")
    return max(_spread(logits, axis, middle, stride) for _, logits in found.values())


def _spread(logits: Tensor, axis: int, middle: int, stride: int) -> int:
    touched = logits.isnan().flatten(0, 1).any(0).any(1 - axis).nonzero()[:, 0]
    assert len(touched), "the logits do not depend on the image"
    return max(0, middle - int(touched[0]), int(touched[-1]) + 1 - middle - stride)
