"""YOLOX: every cell predicts classes, a box and whether it has an object; the best cells learn.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", 2021, section 2.1: decoupled networks, no anchor
boxes, SimOTA.

Shape letters: B images, A cells of all levels (A_l of one), K classes, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.anchors import AnchorGrid, labelled
from densekit.heads.one_stage.base import Level, OneStageHead, by_anchor
from densekit.heads.one_stage.detections import Candidates
from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.heads.one_stage.targets import LEFT_OUT, Targets, assigned, batch_total
from densekit.layers import Layers
from densekit.losses.box import paired_iou
from densekit.losses.targets import full_precision, recomputed
from densekit.ops.boxes import decode_in_cells, encode_in_cells
from densekit.ops.nms import Backend
from densekit.ops.simota import Predicted, SimOTARule, in_reach, match_by_cost
from densekit.types import Batch, Features, FeatureSpec

LEVELS = ("p3", "p4", "p5")
BOX_WEIGHT = 5.0
"""Weight of the boxes' loss in the authors' code."""


class Dense(NamedTuple):
    """Outputs of cells: logits (B, A, K), deltas (B, A, 4), logits of the objectness (B, A)."""

    logits: Tensor
    deltas: Tensor
    objectness: Tensor


class YOLOX(OneStageHead):
    """One-stage detector with networks of each level's own and no anchor boxes.

    A detection's score is the probability of its class times the objectness; each cell has one
    class. It reads p3 to p5, of whatever channels.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels with cells, finest first; with p2 for objects of a few pixels.
        channels: C of the networks.
        depth: Number of 3x3 convolutions of the network of classes, and of that of boxes.
        norm: Norm after each of them, see `densekit.layers.Layers`.
        norm_eps: Added to the norm's variance.
        prior: Probability of each class, and of an object, at the start of training.
        matching: See `SimOTARule`.
        l1_weight: Weight of the L1 distance of the deltas; the authors add it, with weight 1, in
            the last epochs, without mosaic and mixup.
        detection: See `DenseDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = LEVELS,
        channels: int = 256,
        depth: int = 2,
        norm: str | None = "batch",
        norm_eps: float = 1e-3,
        prior: float = 0.01,
        matching: SimOTARule = SimOTARule(),  # noqa: B008 - frozen
        l1_weight: float = 0.0,
        detection: DenseDetectionRule = DenseDetectionRule(  # noqa: B008
            0.01, 0.65, 100, clip_first=False, drop_empty=True
        ),
        backend: Backend | None = None,
    ) -> None:
        read = {name: specs[name] for name in levels}
        super().__init__(
            read, num_classes, _cells(read.values()), detection=detection, backend=backend
        )
        self.matching, self.l1_weight = matching, l1_weight
        make = Layers(2, norm, norm_eps)
        self.networks = nn.ModuleDict(
            {
                name: Decoupled(make, spec.channels, channels, depth, num_classes, prior)
                for name, spec in read.items()
            }
        )

    def moved(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Returns the boxes (..., 4) that cells predict with deltas (..., 4)."""
        return decode_in_cells(deltas, anchors)

    def dense(self, level: Level) -> Dense:
        """Predicts the outputs of a level's cells, the two kinds of logits in full precision."""
        network: Decoupled = self.networks[self.reads[level.number]]  # type: ignore[assignment]
        logits, deltas, objectness = network(level.x)
        return Dense(
            full_precision(by_anchor(logits, self.num_classes)),
            by_anchor(deltas, 4),
            full_precision(by_anchor(objectness, 1)[..., 0]),
        )

    def candidates(self, level: Level) -> Candidates:
        """Returns the cells of a level with the best scores, each with its best class."""
        found = self.dense(level)
        probability, label = found.logits.sigmoid().max(2)
        score = probability * found.objectness.sigmoid()
        count = min(self.detection.per_level, score.shape[1])
        value, row = score.topk(count, 1)  # (B, M)
        deltas = found.deltas.gather(1, row[..., None].expand(-1, -1, 4))
        return Candidates(value, label.gather(1, row), deltas, level.anchors[row])

    def unreached(self, batch: Batch, padded: tuple[int, int]) -> Tensor:
        """Returns the objects (B, T) with no cell that may be theirs.

        Of those that have one, the predictions decide; in a crowd an object may lose all its cells
        to others.
        """
        cells = torch.cat(self.grid.of_image(padded, batch["boxes"].device))
        return labelled(batch) & ~in_reach(batch["boxes"], cells, self.matching)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the terms `cls`, `box` and `objectness`; with an `l1_weight` also `l1`."""
        levels = self.levels(features)
        cells = torch.cat([level.anchors for level in levels])
        found = Dense(*(torch.cat(p, 1) for p in zip(*map(self.dense, levels), strict=True)))
        boxes = self.moved(found.deltas, cells)
        target = self.targets(boxes, found, cells, batch)
        count = batch_total(target.positive)
        iou = paired_iou(boxes, target.boxes)  # (B, A)
        losses = {
            "cls": classification_sum(found.logits, target, iou.detach()) / count,
            "box": BOX_WEIGHT * ((1 - iou.square()) * target.positive).sum() / count,
            "objectness": objectness_sum(found.objectness, target) / count,
        }
        if self.l1_weight:
            shift = full_precision(found.deltas) - encode_in_cells(target.boxes, cells)
            losses["l1"] = self.l1_weight * (shift.abs().sum(2) * target.positive).sum() / count
        return losses

    def targets(self, boxes: Tensor, found: Dense, cells: Tensor, batch: Batch) -> Targets:
        """Assigns objects to cells.

        Args:
            boxes: Predictions (B, A, 4).
            found: The outputs they are from.
            cells: (A, 4).
            batch: Its objects.
        """
        predicted = Predicted(boxes, found.logits, found.objectness)
        assign = partial(
            match_by_cost,
            labels=batch["labels"],
            points=cells,
            found=predicted,
            rule=self.matching,
        )
        return assigned(cells, batch, assign)


class Decoupled(nn.Module):
    """Networks of one level: a common 1x1 convolution, then one for classes and one for boxes.

    Args:
        make: Makes the layers.
        in_channels: Channels of the level.
        channels: Channels of the networks.
        depth: Number of 3x3 convolutions of each.
        num_classes: K.
        prior: Probability of each class, and of an object, at the start of training.
    """

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        channels: int,
        depth: int,
        num_classes: int,
        prior: float,
    ) -> None:
        super().__init__()
        self.stem = make.conv_norm(in_channels, channels, 1)
        self.cls_convs = nn.ModuleList(make.conv_norm(channels, channels, 3) for _ in range(depth))
        self.box_convs = nn.ModuleList(make.conv_norm(channels, channels, 3) for _ in range(depth))
        self.logits = nn.Conv2d(channels, num_classes, 1)
        self.deltas = nn.Conv2d(channels, 4, 1)
        self.objectness = nn.Conv2d(channels, 1, 1)
        for layer in (self.logits, self.objectness):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, -math.log((1 - prior) / prior))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (B, C, h, w) to logits (B, K, h, w), deltas (B, 4, h, w), objectness (B, 1, ...)."""
        of_classes = of_boxes = F.silu(self.stem(x))
        for conv in self.cls_convs:
            of_classes = F.silu(conv(of_classes))
        for conv in self.box_convs:
            of_boxes = F.silu(conv(of_boxes))
        return self.logits(of_classes), self.deltas(of_boxes), self.objectness(of_boxes)


def classification_sum(logits: Tensor, target: Targets, iou: Tensor) -> Tensor:
    """Returns the sum of the binary cross-entropy over the cells with an object.

    Args:
        logits: (B, A, K), in full precision.
        target: Of every cell.
        iou: (B, A) of the predicted boxes with the targets: what a cell's own class is trained
            towards.
    """

    def total(logits: Tensor, classes: Tensor) -> Tensor:
        own = classes[..., None] == torch.arange(logits.shape[2], device=classes.device)
        wanted = torch.where(own, iou[..., None], 0.0)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (loss * target.positive[..., None]).sum()

    return recomputed(total, logits, target.classes)


def objectness_sum(objectness: Tensor, target: Targets) -> Tensor:
    """Returns the sum of the binary cross-entropy over the cells that count.

    Args:
        objectness: Logits (B, A), in full precision.
        target: Of every cell.
    """
    wanted = target.positive.to(objectness.dtype)
    loss = F.binary_cross_entropy_with_logits(objectness, wanted, reduction="none")
    return (loss * (target.classes != LEFT_OUT)).sum()


def _cells(specs: Iterable[FeatureSpec]) -> AnchorGrid:
    """One square of a stride per cell."""
    strides = tuple((spec.stride[0], spec.stride[1]) for spec in specs)
    sizes = tuple((float(stride[0]),) for stride in strides)
    return AnchorGrid(strides, sizes, (1.0,), rounded=False, grid_strides=False, offset=0.5)
