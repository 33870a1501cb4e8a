"""The resize rule of images: a length of the shorter side, and a limit of the longer side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit._names import check_keys
from densekit.types import IGNORE_INDEX, MASKS, Batch


class ResizeRule(TypedDict):
    """How images are resized, in pixels.

    Attributes:
        min_size: Length of the shorter side.
        max_size: Largest length of the longer side; unlimited by default.
        crop: Side of the square that is then cropped from the centre, for image classification.
        antialias: Whether a reduced image is smoothed first, as by Pillow and most classifiers.
        rounded: Whether sides are rounded to the nearest pixel, as in detectron2 and mmdetection,
            or down, as in torchvision.
    """

    min_size: int
    max_size: NotRequired[int]
    crop: NotRequired[int]
    antialias: NotRequired[bool]
    rounded: NotRequired[bool]


def check_rule(rule: Mapping[str, Any], spatial_dims: int, slices: object) -> None:
    """Checks that a rule is complete and applies to these images.

    Args:
        rule: The user's `resize`.
        spatial_dims: Spatial dimensions of the images.
        slices: `info["slices"]`: a network of slices is evaluated on whole volumes.

    Raises:
        ValueError: A key is unknown or missing, or the images are not 2-D.
    """
    check_keys("resize", rule, ResizeRule.__annotations__)
    if "min_size" not in rule:
        raise ValueError(f"resize: expected a rule with min_size, got {dict(rule)}")
    kind = "slices of volumes" if slices else {1: "series", 3: "volumes"}.get(spatial_dims)
    if kind is not None:
        raise ValueError(
            f"resize: expected null for {kind}, as the rule is for 2-D images, got {dict(rule)};"
            " set resize=null (volumes are resampled to one spacing by their data set, series keep"
            " their length)"
        )


def resized_size(height: int, width: int, rule: ResizeRule) -> tuple[int, int]:
    """Returns height and width after resizing, at least 1."""
    scale = min(
        rule["min_size"] / min(height, width),
        rule.get("max_size", math.inf) / max(height, width),
    )
    more = 0.5 if rule.get("rounded", False) else 0.0
    return max(1, math.floor(height * scale + more)), max(1, math.floor(width * scale + more))


def resize_image(image: Tensor, rule: ResizeRule) -> Tensor:
    """Resizes an image bilinearly, sampled by the exact ratio of the two sizes.

    Args:
        image: (C, H, W), uint8 or float.
        rule: The resize rule.

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
    """Resizes the images of a batch and their targets.

    Args:
        batch: A collated batch of any sizes; left unchanged.
        rule: The resize rule.

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
    """Resizes every image and crops its centre."""
    if odd := sorted({"boxes", "mask", *MASKS} & set(batch)):
        raise ValueError(
            f"resize.crop: expected a batch of categories alone, got {', '.join(odd)}, which a crop"
            " would cut"
        )
    rows = []
    for image, (height, width) in zip(batch["image"], batch["size"].tolist(), strict=True):
        rows.append(centre_crop(resize_image(image[:, :height, :width], rule), rule["crop"]))
    out, sizes = batch.copy(), [row.shape[1:] for row in rows]
    padded = [max(sides) for sides in zip(*sizes, strict=True)]
    out["image"] = rows[0].new_zeros((len(rows), len(rows[0]), *padded))
    for frame, row in zip(out["image"], rows, strict=True):
        frame[:, : row.shape[1], : row.shape[2]] = row
    out["size"] = batch["size"].new_tensor(sizes)
    return out


def centre_crop(image: Tensor, side: int) -> Tensor:
    """Crops the centre of an image (C, H, W), as in torchvision; a shorter side is kept."""
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
    """Resizes masks (B, ..., H, W) uint8 by nearest neighbour; padded as in collate."""
    out = masks.new_full((*masks.shape[:-2], *padded), IGNORE_INDEX)
    for i, ((h, w), (rows, columns)) in enumerate(zip(old, new, strict=True)):
        part = masks[i, ..., :h, :w].reshape(1, -1, h, w)
        small = F.interpolate(part, (rows, columns), mode="nearest-exact")
        out[i, ..., :rows, :columns] = small.view(*masks.shape[1:-2], rows, columns)
    return out
