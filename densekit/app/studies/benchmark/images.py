"""Rendered images for works whose content does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from densekit.data import Scenes
from densekit.data.collate import collate
from densekit.model import DenseModel
from densekit.types import Batch


def batch_of(scenes: Scenes, device: str) -> Any:
    """All scenes as a training batch on the device."""
    samples: list[Any] = [{**scenes[i], "index": i} for i in range(len(scenes))]
    return moved(collate(samples, training=True), device)


def planes_of(batch: Batch) -> Tensor:
    """The masks of all objects as planes, (B, T, H, W) uint8, for a peer; unknown pixels are 0."""
    masks, (height, width) = batch["object_masks"], batch["image"].shape[2:]
    planes = masks.new_zeros(*masks.shape[:2], height, width)
    for image, slot in batch["boxes_valid"].nonzero().tolist():
        x1, y1, x2, y2 = batch["boxes"][image, slot].tolist()
        mask = torch.nn.functional.pad(masks[image, slot] == 1, (1, 1, 1, 1))
        y, x = (
            # the bin of each pixel's centre; what lies beyond the box is in the padding
            ((torch.arange(side) + 0.5 - start) / (end - start) * masks.shape[2]).floor() + 1
            for side, start, end in ((height, y1, y2), (width, x1, x2))
        )
        rows, columns = (at.clamp(0, len(mask) - 1).long().to(masks.device) for at in (y, x))
        planes[image, slot] = mask[rows][:, columns]
    return planes


def noise_for(model: DenseModel, count: int, sides: Sequence[int], device: str) -> Batch:
    """Normal noise with the mean and the standard deviation that a model expects."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, model.mean.shape[1], *sides, generator=generator)
    image = image * model.std.cpu() + model.mean.cpu()
    return {"image": image.to(device), "size": torch.tensor([[*sides]] * count, device=device)}


def moved(batch: Any, device: str) -> Any:
    """A batch with its tensors on a device."""
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
