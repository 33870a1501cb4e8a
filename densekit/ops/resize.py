"""The resize rule of detectors: shorter side to a minimum, longer side at most a maximum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit._names import check_keys
from densekit.types import IGNORE_INDEX, Batch


class ResizeRule(TypedDict):
    """Sides in pixels.

    Attributes:
        min_size: The shorter side.
        max_size: What the longer side must not exceed; without it, any.
        crop: Side of the square that is then cut out of the middle, for categories of images.
        antialias: Whether a reduced image is smoothed first, as Pillow and most classifiers do it.
    """

    min_size: int
    max_size: NotRequired[int]
    crop: NotRequired[int]
    antialias: NotRequired[bool]


def check_rule(rule: Mapping[str, Any], spatial_dims: int, slices: object) -> None:
    """Refuses a rule that cannot be followed.

    Args:
        rule: What the user wrote as `resize`.
        spatial_dims: Of the images.
        slices: What `info["slices"]` says: a network of slices is judged on whole volumes.

    Raises:
        ValueError: A key is unknown or missing, or the images are no pictures.
    """
    check_keys("resize", rule, ResizeRule.__annotations__)
    if "min_size" not in rule:
        raise ValueError(f"resize: min_size is missing, found {dict(rule)}")
    kind = "slices of volumes" if slices else {1: "series", 3: "volumes"}.get(spatial_dims)
    if kind is not None:
        raise ValueError(
            f"resize: {dict(rule)} is for pictures, the images are {kind}; set resize=null (volumes"
            " are brought to one spacing by their data set, series keep their length)"
        )


def resized_size(height: int, width: int, rule: ResizeRule) -> tuple[int, int]:
    """Height and width after the rule, at least 1, rounded down as torchvision does."""
    scale = min(
        rule["min_size"] / min(height, width),
        rule.get("max_size", math.inf) / max(height, width),
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
    smooth = rule.get("antialias", False)
    resized = F.interpolate(
        image[None], size, mode="bilinear", align_corners=False, antialias=smooth
    )
    return resized[0]


def resize_batch(batch: Batch, rule: ResizeRule) -> Batch:
    """Resizes every image of a batch and moves its targets along.

    Args:
        batch: As collate makes it, of any sizes. Left untouched.
        rule: The sides to reach.

    Returns:
        A new batch of float images, padded to the largest; `meta` and `truth` are shared.

    Raises:
        ValueError: The rule crops and the batch has boxes or masks.
    """
    if "crop" in rule:
        return _cropped_batch(batch, rule)
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


def _cropped_batch(batch: Batch, rule: ResizeRule) -> Batch:
    """Resizes every image and keeps its middle."""
    if odd := sorted({"boxes", "mask", "instance_masks"} & set(batch)):
        raise ValueError(f"resize.crop: a crop would cut {', '.join(odd)}; it is for categories")
    rows = []
    for image, (height, width) in zip(batch["image"], batch["size"].tolist(), strict=True):
        rows.append(centre_crop(resize_image(image[:, :height, :width], rule), rule["crop"]))
    out, sizes = batch.copy(), [row.shape[1:] for row in rows]
    padded = [max(sides) for sides in zip(*sizes, strict=True)]
    out["image"] = rows[0].new_zeros((len(rows), len(rows[0]), *padded))
    for place, row in zip(out["image"], rows, strict=True):
        place[:, : row.shape[1], : row.shape[2]] = row
    out["size"] = batch["size"].new_tensor(sizes)
    return out


def centre_crop(image: Tensor, side: int) -> Tensor:
    """The middle of an image (C, H, W), as torchvision places it; a shorter side stays."""
    for axis in (1, 2):
        length = min(side, image.shape[axis])
        image = image.narrow(axis, round((image.shape[axis] - length) / 2), length)
    return image


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
