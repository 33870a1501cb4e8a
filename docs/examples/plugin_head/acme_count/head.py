"""Counts the objects of each class by integrating a density map.

Shape letters: B images, T target slots, K classes, H W the size of the level that is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from acme_count.metric import CountError
from densekit.heads import Head
from densekit.ops.dist import global_count
from densekit.types import Batch, Features, Predictions, Specs


class Count(Head):
    """One density map a class; its sum over the image is the number of objects.

    Args:
        specs: What every level looks like that could exist.
        num_classes: K.
        level: The level whose cells hold the density.
    """

    def __init__(self, specs: Specs, num_classes: int, level: str = "c4") -> None:
        super().__init__()
        self.reads = (level,)
        self.target_keys = ("labels", "boxes_valid", "crowd")
        self.stride = specs[level].stride
        self.density = nn.Conv2d(specs[level].channels, num_classes, kernel_size=1)
        nn.init.normal_(self.density.weight, std=0.01)
        # About .007 objects a cell before training, a few in a picture: near the answer.
        nn.init.constant_(self.density.bias, -5.0)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return {"density": F.softplus(self.density(features[self.reads[0]]))}  # (B, K, H, W)

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        density = outputs["density"]
        inside = self._inside(size, density.shape[-2:])  # (B, 1, H, W)
        return {"count": (density * inside).sum(dim=(-2, -1))}  # (B, K)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        size = batch["size"]
        pred_count = self.decode(self(features, size), size)["count"].float()
        gt_count = self._count_targets(batch, pred_count.shape[1])
        loss = F.poisson_nll_loss(pred_count, gt_count, log_input=False, reduction="none")
        valid = batch["sample_valid"]
        # A sum times zero keeps the graph where no image is valid; an empty mean would be nan.
        return {"poisson": (loss.mean(1) * valid).sum() / global_count(valid.sum())}

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        return {"count": CountError(list(info["names"]))}

    def _inside(self, size: Tensor, shape: torch.Size) -> Tensor:
        """True on cells whose corner lies in the image, false in the padding: (B, 1, H, W)."""
        height, width = shape
        rows = torch.arange(height, device=size.device) * self.stride[0] < size[:, :1]  # (B, H)
        columns = torch.arange(width, device=size.device) * self.stride[1] < size[:, 1:]  # (B, W)
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    @staticmethod
    def _count_targets(batch: Batch, num_classes: int) -> Tensor:
        counted = batch["boxes_valid"] & ~batch["crowd"]  # (B, T)
        classes = F.one_hot(batch["labels"], num_classes)  # (B, T, K)
        return (classes * counted[..., None]).sum(1).float()  # (B, K)
