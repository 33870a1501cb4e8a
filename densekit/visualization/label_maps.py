"""Small label maps: what is annotated in an image and what was predicted, in some kilobytes.

Shape letters: S the sides of an image, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from densekit.ops.interpolation import resize_labels
from densekit.types import IGNORE_INDEX

SIDE = 128
"""Longer side to which larger masks are shrunk."""
BITS = 7
"""Classes of a multi-label mask that are kept: the bits of a byte that is never `IGNORE_INDEX`."""


@dataclass(frozen=True)
class LabelMap:
    """The masks of one image, or of one slice of a volume.

    Attributes:
        png: Grey picture (2 H, W), annotation above prediction. Values are those of the masks; of
            multi-label masks the sum of `2 ** class` over the first `BITS` classes. 255 is ignored.
        slice: Which slice of the volume's first axis is shown; None for an image.
    """

    png: bytes
    slice: int | None


def label_map(truth: Any, predicted: Any, dims: int) -> LabelMap:
    """Shrinks the two masks of an image; of a volume the slice in which they differ most.

    Args:
        truth: (*S) or (K, *S) integers, 255 where nothing is counted.
        predicted: Likewise, of any device.
        dims: Number of sides S, 2 or 3.
    """
    planes = [torch.as_tensor(truth), torch.as_tensor(predicted)]
    shown = None
    if dims == 3:
        shown = _slice_to_show(planes[0].to(planes[1].device), planes[1])
        planes = [plane[..., shown, :, :] for plane in planes]
    small = [_as_values(_shrunk(plane).cpu()) for plane in planes]
    _, png = cv2.imencode(".png", np.concatenate([plane.numpy() for plane in small]))
    return LabelMap(png.tobytes(), shown)


def _slice_to_show(truth: Tensor, predicted: Tensor) -> int:
    """The slice that differs most; without any difference the one with the most that is not 0."""
    counted = truth != IGNORE_INDEX
    for found in ((truth != predicted) & counted, (truth > 0) & counted):
        others = [axis for axis in range(found.ndim) if axis != found.ndim - 3]
        of_slices = found.sum(dim=others)  # (z,)
        if bool(of_slices.any()):
            break
    return int(of_slices.argmax())


def _shrunk(plane: Tensor) -> Tensor:
    """(..., H, W) to at most `SIDE` per side, by the nearest pixels."""
    sides = plane.shape[-2:]
    share = min(1.0, SIDE / max(sides))
    return resize_labels(plane, [max(1, round(side * share)) for side in sides])


def _as_values(plane: Tensor) -> Tensor:
    """(H, W) uint8 of (H, W) or (K, H, W)."""
    if plane.ndim == 2:
        return plane.to(torch.uint8)
    ignored = (plane == IGNORE_INDEX).any(dim=0)
    bits = [(of_class == 1).to(torch.uint8) << bit for bit, of_class in enumerate(plane[:BITS])]
    return torch.where(ignored, IGNORE_INDEX, sum(bits)).to(torch.uint8)
