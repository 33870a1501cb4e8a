"""The resize rule of detectors: shorter side to a minimum, longer side at most a maximum."""

from __future__ import annotations

import math
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.types import IGNORE_INDEX, Batch


class ResizeRule(TypedDict):
    """Sides in pixels."""

    min_size: int
    max_size: int


def resized_size(height: int, width: int, rule: ResizeRule) -> tuple[int, int]:
    """Height and width after the rule, at least 1, rounded down as torchvision does."""
    scale = min(
        rule["min_size"] / min(height, width),
        rule["max_size"] / max(height, width),
    )
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def resize_image(image: Tensor, rule: ResizeRule) -> Tensor:
    """Bilinear resize, sampled by the exact ratio of the two sizes.

    Args:
        image: (C, H, W), uint8 or float.
        rule: The sides to reach.

    Returns:
        (C, h, w) in float32; float64 stays.
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    size = resized_size(image.shape[1], image.shape[2], rule)
    if size == tuple(image.shape[1:]):
        return image
    return F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]


def resize_batch(batch: Batch, rule: ResizeRule) -> Batch:
    """Resizes every image of a batch and moves its targets along.

    Args:
        batch: As collate makes it, of any sizes. Left untouched.
        rule: The sides to reach.

    Returns:
        A new batch of float images, padded to the largest; `meta` and `truth` are shared.
    """
    old = [(int(h), int(w)) for h, w in batch["size"].tolist()]
    new = [resized_size(h, w, rule) for h, w in old]
    if new == old:
        return batch
    out = batch.copy()
    padded = max(h for h, _ in new), max(w for _, w in new)
    images = batch["image"]
    dtype = torch.promote_types(images.dtype, torch.float32)
    out["image"] = images.new_zeros((*images.shape[:2], *padded), dtype=dtype)
    for i, ((h, w), (rows, columns)) in enumerate(zip(old, new, strict=True)):
        out["image"][i, :, :rows, :columns] = resize_image(images[i, :, :h, :w], rule)
    out["size"] = batch["size"].new_tensor(new)
    if "boxes" in batch:
        scale = out["size"].float() / batch["size"].float()  # (B, 2) y, x
        out["boxes"] = batch["boxes"] * scale.flip(1).repeat(1, 2)[:, None]
    if "mask" in batch:
        out["mask"] = _resize_masks(batch["mask"], old, new, padded)
    if "instance_masks" in batch:
        out["instance_masks"] = _resize_masks(batch["instance_masks"], old, new, padded)
    return out


def _resize_masks(
    masks: Tensor,
    old: list[tuple[int, int]],
    new: list[tuple[int, int]],
    padded: tuple[int, int],
) -> Tensor:
    """Nearest neighbour, (B, ..., H, W) uint8; the padding is collate's."""
    out = masks.new_full((*masks.shape[:-2], *padded), IGNORE_INDEX)
    for i, ((h, w), (rows, columns)) in enumerate(zip(old, new, strict=True)):
        part = masks[i, ..., :h, :w].reshape(1, -1, h, w)
        small = F.interpolate(part, (rows, columns), mode="nearest-exact")
        out[i, ..., :rows, :columns] = small.view(*masks.shape[1:-2], rows, columns)
    return out
