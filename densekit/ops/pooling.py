"""Pooling of maps of padded images.

Shape letters: B images, C channels, D spatial dimensions, s the D sizes of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_inside(x: Tensor, size: Tensor, stride: Sequence[int]) -> Tensor:
    """Applies global average pooling (Lin et al. 2013) to each image without its padding.

    A cell counts if it begins inside its image. Without padding the result is bit-identical to the
    plain mean. Paper: Network in network, section 3.2.

    Args:
        x: (B, C, *s).
        size: (B, D) int64, the size of each image without its padding, in pixels.
        stride: Stride of the map along each axis, in pixels.

    Returns:
        (B, C).
    """
    share = torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
    for axis, (length, step) in enumerate(zip(x.shape[2:], stride, strict=True)):
        cells = ((size[:, axis] + step - 1) // step).clamp(max=length)  # (B,)
        beyond = torch.arange(length, device=x.device) >= cells[:, None]  # (B, length)
        shape = [x.shape[0], *[1] * (x.ndim - 1)]
        shape[2 + axis] = length
        x = x.masked_fill(beyond.view(shape), 0)
        share = share * (length / cells).to(x.dtype)
    return x.mean(dim=tuple(range(2, x.ndim))) * share[:, None]  # (B, C)
