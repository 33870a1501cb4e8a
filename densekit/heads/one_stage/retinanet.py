"""RetinaNet: two small networks, shared by all levels, classify and move every anchor.

Lin et al., "Focal Loss for Dense Object Detection", 2017, section 4.

Shape letters: B images, A anchors of all levels (A_l of one), K classes, C channels, M candidates,
D detections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from densekit.heads.anchors import anchor_grid, label_anchors
from densekit.heads.base import Head
from densekit.heads.one_stage.detections import Candidates, best_of_level, select_dense
from densekit.heads.one_stage.rules import DenseDetectionRule, FocalRule
from densekit.layers import Layers
from densekit.losses.box import SmoothL1Box
from densekit.losses.focal import sigmoid_focal
from densekit.losses.targets import recomputed
from densekit.ops.dist import global_count
from densekit.ops.matching import IGNORED, POSITIVE, MatchRule
from densekit.ops.nms import Backend
from densekit.types import Batch, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric

ANCHOR_SCALE = 4
"""Default size of the smallest anchor in multiples of its level's stride: 32 pixels on p3."""
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Default sizes of a level's anchors, in multiples of the smallest."""
BoxLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Deltas, anchors and target boxes (..., 4) to losses (...)."""
BACKGROUND, LEFT_OUT = -1, -2
"""Targets of an anchor without an object, and of one that does not count."""


class RetinaNet(Head):
    """One-stage detector with focal loss.

    It reads p3 to p7, which a neck with `extra="conv_backbone"` or `extra="conv"` has. The defaults
    are torchvision's v1, but for exact anchors; `presets` has the settings of torchvision's v2,
    detectron2 and mmdetection.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels with anchors, finest first, all with the same channels.
        depth: Number of 3x3 convolutions of each of the two networks before its predictor.
        norm: Norm after each of them, see `densekit.layers.Layers`; torchvision's v2 has "group".
        sizes: Anchor sizes of each level in pixels; three per octave from 4 strides by default.
        aspect_ratios: Height over width.
        round_anchors: See `densekit.heads.anchors.AnchorGrid`.
        grid_strides: See `densekit.heads.anchors.AnchorGrid`.
        matching: See `MatchRule`.
        focal: See `FocalRule`.
        box_loss: `SmoothL1Box` or `GIoUBox` of `densekit.losses`; plain L1 by default.
        detection: See `DenseDetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.

    Raises:
        ValueError: `sizes` has not one list of equal length per level.
    """

    target_keys = ("boxes", "boxes_valid", "labels")
    main_metric = ("AP", "max")

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = ("p3", "p4", "p5", "p6", "p7"),
        depth: int = 4,
        norm: str | None = None,
        sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        round_anchors: bool = False,
        grid_strides: bool = False,
        matching: MatchRule = MatchRule(0.5, 0.4, low_quality=True),  # noqa: B008 - frozen
        focal: FocalRule = FocalRule(),  # noqa: B008
        box_loss: BoxLoss = SmoothL1Box(),  # noqa: B008
        detection: DenseDetectionRule = DenseDetectionRule(),  # noqa: B008
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        read = {name: specs[name] for name in levels}
        self.reads = tuple(levels)
        self.num_classes = num_classes
        smallest = [ANCHOR_SCALE * spec.stride[0] for spec in read.values()]
        self.grid = anchor_grid(
            "sizes",
            read,
            sizes or [[size * step for step in OCTAVE] for size in smallest],
            aspect_ratios,
            rounded=round_anchors,
            grid_strides=grid_strides,
        )
        self.matching, self.focal, self.box_loss = matching, focal, box_loss
        self.detection, self.backend = detection, backend
        channels, per_cell = next(iter(read.values())).channels, self.grid.per_cell
        make = Layers(2, norm)
        self.cls_convs = nn.ModuleList(make.conv_norm(channels, channels, 3) for _ in range(depth))
        self.box_convs = nn.ModuleList(make.conv_norm(channels, channels, 3) for _ in range(depth))
        self.logits = nn.Conv2d(channels, per_cell * num_classes, 3, padding=1)
        self.deltas = nn.Conv2d(channels, per_cell * 4, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - self.focal.prior) / self.focal.prior))

    def dense(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts logits (B, A_l, K) and deltas (B, A_l, 4) of one level (B, C, h, w).

        They are ordered by row, column and anchor of the cell.
        """
        of_classes, of_boxes = x, x
        for conv in self.cls_convs:
            of_classes = conv(of_classes).relu_()
        for conv in self.box_convs:
            of_boxes = conv(of_boxes).relu_()
        logits = self.logits(of_classes).permute(0, 2, 3, 1)  # (B, h, w, a K)
        deltas = self.deltas(of_boxes).permute(0, 2, 3, 1)
        return logits.reshape(x.shape[0], -1, self.num_classes), deltas.reshape(x.shape[0], -1, 4)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns the best pairs of an anchor and a class of every level.

        Returns:
            logits (B, M), labels (B, M), deltas (B, M, 4) and anchors (B, M, 4).
        """
        levels, anchors = self._levels(features)
        found = [
            best_of_level(*self.dense(x), boxes, self.detection.per_level)
            for x, boxes in zip(levels, anchors, strict=True)
        ]
        joined = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return dict(zip(Candidates._fields, joined, strict=True))

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Selects detections above the score threshold, by descending score.

        Returns:
            boxes (B, D, 4), scores, labels 0..K-1 and valid (B, D).
        """
        return select_dense(Candidates(**outputs), size, self.detection, self.backend)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the two terms `cls` and `box`."""
        levels, anchors = self._levels(features)
        every = torch.cat(anchors)
        index, label = label_anchors(every, batch, self.matching)
        label = label.masked_fill(~batch["sample_valid"][:, None], IGNORED)
        weight = self._image_weights(label == POSITIVE, batch["sample_valid"])
        target = batch["labels"].gather(1, index)
        target = torch.where(label == POSITIVE, target, BACKGROUND)
        target = target.masked_fill(label == IGNORED, LEFT_OUT)  # (B, A)
        counts = [len(boxes) for boxes in anchors]
        terms = [
            self._level_loss(x, boxes, classes, gt, batch["boxes"])
            for x, boxes, classes, gt in zip(
                levels, anchors, target.split(counts, 1), index.split(counts, 1), strict=True
            )
        ]
        cls, box = (torch.stack(parts).sum(0) for parts in zip(*terms, strict=True))  # (B,)
        return {"cls": (cls * weight).sum(), "box": (box * weight).sum()}

    def _level_loss(
        self, x: Tensor, anchors: Tensor, target: Tensor, index: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums of both losses of one level, (B,) each."""
        logits, deltas = self.dense(x)
        exact = torch.promote_types(logits.dtype, torch.float32)
        gt = boxes.gather(1, index[..., None].expand(-1, -1, 4)).to(exact)
        own = anchors.to(exact).expand_as(gt)
        positive = target >= 0
        # the loss of any other anchor against itself is finite, as is its gradient
        error = self.box_loss(deltas.to(exact), own, torch.where(positive[..., None], gt, own))
        return recomputed(self._focal, logits, target), (error * positive).sum(1)

    def _focal(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sums of the focal loss (B,) of logits (B, A_l, K) and classes (B, A_l)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        own = target[..., None] == torch.arange(self.num_classes, device=target.device)
        alpha = torch.where(own, self.focal.alpha, 1 - self.focal.alpha)
        loss = sigmoid_focal(logits, own, self.focal.gamma) * alpha
        return (loss * (target != LEFT_OUT)[..., None]).sum((1, 2))

    def _image_weights(self, positive: Tensor, valid: Tensor) -> Tensor:
        """What each image's sums are multiplied by, (B,)."""
        count = positive.sum(1).clamp(min=1)
        if self.focal.per_image:
            return 1 / (count * global_count(valid.sum()))
        return (1 / global_count((count * valid).sum())).expand(len(count))

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns COCO's twelve metrics and the AP of each class."""
        from densekit.metrics import CocoMap

        return {"coco": CocoMap(names=list(info["names"]))}

    def _levels(self, features: Features) -> tuple[list[Tensor], list[Tensor]]:
        """The levels and the anchors (A_l, 4) of each."""
        levels = [features[name] for name in self.reads]
        padded = int(features["c0"].shape[2]), int(features["c0"].shape[3])
        cells = [x.shape[2] * x.shape[3] * self.grid.per_cell for x in levels]
        return levels, list(self.grid(levels, padded).split(cells))
