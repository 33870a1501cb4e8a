"""Rendered images for works whose content does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from densekit.data import Scenes
from densekit.data.collate import collate
from densekit.model import DenseModel
from densekit.types import Batch


def batch_of(scenes: Scenes, device: str) -> Any:
    """All scenes as a training batch on the device."""
    samples: list[Any] = [{**scenes[i], "index": i} for i in range(len(scenes))]
    return moved(collate(samples, training=True), device)


def noise_for(model: DenseModel, count: int, sides: Sequence[int], device: str) -> Batch:
    """Normal noise with the mean and the standard deviation that a model expects."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, model.mean.shape[1], *sides, generator=generator)
    image = image * model.std.cpu() + model.mean.cpu()
    return {"image": image.to(device), "size": torch.tensor([[*sides]] * count, device=device)}


def moved(batch: Any, device: str) -> Any:
    """A batch with its tensors on a device."""
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
