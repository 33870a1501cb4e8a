"""Detection by centre points: one heatmap per class, and a box size at every peak.

Shape letters: B images, K classes, T target slots, N detections, h w the cells of the level read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from acme_centernet.targets import cell_centres, gaussians
from densekit.heads import Head
from densekit.metrics import CocoMap
from densekit.ops.boxes import clip_boxes
from densekit.ops.dist import global_count
from densekit.types import Batch, Features, Predictions, Specs

RARE = -2.19
"""Initial bias, the logit of 0.1: the many background cells must not dominate the first steps."""


class CenterNet(Head):
    """CenterNet (Zhou et al. 2019, Objects as Points) on one level: heatmap, sides and offset.

    Args:
        specs: Channels and stride of every level that could exist.
        num_classes: K.
        level: The level whose cells may be centres.
        channels: Channels of the hidden layer of each branch.
        max_detections: N.
    """

    target_keys = ("boxes", "labels", "boxes_valid", "crowd")
    main_metric = ("AP", "max")

    def __init__(
        self,
        specs: Specs,
        num_classes: int,
        level: str = "p2",
        channels: int = 64,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.reads = (level,)
        self.num_classes, self.max_detections = num_classes, max_detections
        stride_y, stride_x = specs[level].stride
        self.register_buffer("stride", torch.tensor([stride_x, stride_y]), persistent=False)
        self.heatmap = _branch(specs[level].channels, channels, num_classes)
        self.sides = _branch(specs[level].channels, channels, 2)
        self.offset = _branch(specs[level].channels, channels, 2)
        nn.init.constant_(self.heatmap[-1].bias, RARE)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        x = features[self.reads[0]]
        return {
            "heatmap": self.heatmap(x),  # (B, K, h, w) logits
            "sides": self.sides(x),  # (B, 2, h, w) width and height in cells
            "offset": self.offset(x),  # (B, 2, h, w) of the centre from the middle of its cell
        }

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        score = outputs["heatmap"].float().sigmoid()
        peak = score == F.max_pool2d(score, 3, stride=1, padding=1)  # in place of suppression
        inside = self._inside(size, score)  # (B, 1, h, w)
        score, index = (score * (peak & inside)).flatten(1).topk(self._count(score))  # (B, N)
        cells = outputs["heatmap"].shape[-2:].numel()
        cell = (index % cells)[:, None].expand(-1, 2, -1)  # (B, 2, N)
        sides = outputs["sides"].float().flatten(2).gather(2, cell).clamp(min=0)
        offset = outputs["offset"].float().flatten(2).gather(2, cell)
        centre = cell_centres(outputs["heatmap"]).flatten(2).expand(size.shape[0], -1, -1)
        centre = centre.gather(2, cell) + offset
        boxes = torch.cat((centre - sides / 2, centre + sides / 2), 1).mT  # (B, N, 4) in cells
        boxes = clip_boxes(boxes * self.stride.repeat(2), size)
        valid = (score > 0) & (boxes[..., :2] < boxes[..., 2:]).all(-1)
        return {"boxes": boxes, "scores": score, "labels": index // cells, "valid": valid}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        outputs = self(features, batch["size"])
        valid = batch["boxes_valid"] & ~batch["crowd"] & batch["sample_valid"][:, None]  # (B, T)
        boxes = batch["boxes"] / self.stride.repeat(2)  # in cells
        objects = global_count(valid.sum())
        return {
            "heatmap": self._heatmap_loss(outputs["heatmap"], boxes, valid, batch) / objects,
            **{k: v / objects for k, v in self._box_losses(outputs, boxes, valid).items()},
        }

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        return {"coco": CocoMap(names=list(info["names"]))}

    def _heatmap_loss(self, logits: Tensor, boxes: Tensor, valid: Tensor, batch: Batch) -> Tensor:
        """Penalty-reduced focal loss, section 3, equation 1: a sum, ()."""
        logits = logits.float()
        truth = gaussians(boxes, batch["labels"], valid, logits)  # (B, K, h, w), 1 at centres
        score = logits.sigmoid()
        centre = -((1 - score) ** 2) * F.logsigmoid(logits)
        other = -((1 - truth) ** 4) * score**2 * F.logsigmoid(-logits)
        counted = self._inside(batch["size"], logits) & batch["sample_valid"].view(-1, 1, 1, 1)
        return (torch.where(truth == 1, centre, other) * counted).sum()

    def _box_losses(
        self, outputs: dict[str, Tensor], boxes: Tensor, valid: Tensor
    ) -> dict[str, Tensor]:
        """L1 of sides and offset at the cells of the centres, equations 2 and 3: sums, ()."""
        height, width = outputs["heatmap"].shape[-2:]
        centre, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        column = centre[..., 0].long().clamp(max=width - 1)  # (B, T)
        row = centre[..., 1].long().clamp(max=height - 1)
        cell = (row * width + column)[:, None].expand(-1, 2, -1)  # (B, 2, T)
        middle = torch.stack((column, row), -1) + 0.5
        gt = {"sides": sides, "offset": centre - middle}  # (B, T, 2)
        losses = {}
        for name, weight in (("sides", 0.1), ("offset", 1.0)):
            pred = outputs[name].float().flatten(2).gather(2, cell).mT
            losses[name] = weight * ((pred - gt[name]).abs() * valid[..., None]).sum()
        return losses

    def _inside(self, size: Tensor, like: Tensor) -> Tensor:
        """True for cells whose middle lies in the image, false in the padding: (B, 1, h, w)."""
        middle = cell_centres(like) * self.stride.view(1, 2, 1, 1)  # (1, 2, h, w) x and y
        return (middle < size.flip(1)[..., None, None]).all(1, keepdim=True)

    def _count(self, score: Tensor) -> int:
        """N, or the number of scores of an image with fewer cells."""
        return min(self.max_detections, score[0].numel())


def _branch(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, out_channels, kernel_size=1),
    )
