"""COCO's run lengths of binary masks: runs down the columns, zeros first.

N masks, H and W their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.types import RunLengths


def encode(planes: NDArray[Any]) -> list[RunLengths]:
    """Compresses masks.

    Args:
        planes: (N, H, W) bool, or uint8 of 0 and 1.
    """
    from pycocotools import mask as coco_mask

    ordered = np.asfortranarray(planes.transpose(1, 2, 0), dtype=np.uint8)  # (H, W, N)
    return [RunLengths(size=one["size"], counts=one["counts"]) for one in coco_mask.encode(ordered)]


def decode(masks: Sequence[RunLengths], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Expands masks of one size to planes (N, H, W) of 0 and 1.

    Args:
        masks: The N masks.
        size: H and W, for the shape if N is 0.
    """
    import cv2
    from pycocotools import mask as coco_mask

    planes = np.zeros((len(masks), *size), dtype=np.uint8)
    for plane, mask in zip(planes, masks, strict=True):
        turned = coco_mask.decode(mask).T  # (W, H), as pycocotools writes down the columns
        top, left, height, width = cv2.boundingRect(turned)
        inside = turned[left : left + width, top : top + height]
        plane[top : top + height, left : left + width] = inside.T
    return planes
