"""Faster R-CNN on a feature pyramid, batched over images with static shapes.

Shape letters: B images, P proposals, K classes, D detections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densekit.heads.anchors import unreached
from densekit.heads.base import Head
from densekit.heads.faster_rcnn.box_head import BoxHead
from densekit.heads.faster_rcnn.cascade import CascadeBoxHead
from densekit.heads.faster_rcnn.detections import select_detections
from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.heads.faster_rcnn.regions import Sampled
from densekit.heads.faster_rcnn.rpn import RPN
from densekit.heads.faster_rcnn.rules import DetectionRule
from densekit.ops.nms import Backend
from densekit.ops.roi import PyramidTable, pyramid_table
from densekit.types import Batch, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric


class FasterRCNN(Head):
    """Two-stage detector: proposals from every level, classified and refined by a box head.

    The defaults are torchvision's v1; `presets` has the settings of torchvision's v2 and of
    detectron2.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        levels: Levels with anchors, finest first.
        pooled: Levels that regions are pooled from, the first ones of `levels`.
        rpn: Makes the first stage from the specs of `levels`.
        box_head: Makes the second stage from the specs of `pooled` and K: a `BoxHead`, or a
            `CascadeBoxHead` for Cascade R-CNN.
        detection: See `DetectionRule`.
        backend: `static` or `ragged` post-processing; chosen by the device by default.

    Raises:
        ValueError: `pooled` are not the first ones of `levels`.
    """

    target_keys: tuple[str, ...] = ("boxes", "boxes_valid", "labels")
    main_metric = ("AP", "max")

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        levels: Sequence[str] = ("p2", "p3", "p4", "p5", "p6"),
        pooled: Sequence[str] = ("p2", "p3", "p4", "p5"),
        rpn: Callable[..., RPN] = RPN,
        box_head: Callable[..., BoxHead | CascadeBoxHead] = BoxHead,
        detection: DetectionRule = DetectionRule(),  # noqa: B008 - frozen
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        if list(levels[: len(pooled)]) != list(pooled):
            raise ValueError(
                f"pooled: expected the first levels of {list(levels)}, got {list(pooled)}"
            )
        self.reads = tuple(levels)
        self.pooled = tuple(pooled)
        self.num_classes = num_classes
        self.rpn = rpn({name: specs[name] for name in levels})
        self.box_head = box_head({name: specs[name] for name in pooled}, num_classes)
        self.detection, self.backend = detection, backend

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns proposals and the box head's outputs for them.

        Returns:
            proposals (B, P, 4), proposals_valid (B, P), logits (B, P, K + 1) with background last,
            deltas (B, P, K, 4), or of one class if they are class-agnostic.
        """
        return self.refined(features, size)[2]

    def refined(
        self, features: Features, size: Tensor
    ) -> tuple[PyramidTable, list[Tensor], dict[str, Tensor]]:
        """Returns the table of the pooled levels, these levels, and the outputs of `forward`."""
        levels = [features[name] for name in self.reads]
        rule = self.rpn.proposals
        anchors = self.rpn.grid(levels, self._padded(features))
        dense = self.rpn(levels)
        with torch.no_grad():
            proposals = self.rpn.propose(
                dense, anchors, size, rule.test_pre_nms, rule.test_post_nms, self.backend
            )
        pooled = levels[: len(self.pooled)]
        table = pyramid_table(pooled)
        return table, pooled, self.box_head.refine(table, pooled, proposals, size)

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Selects detections above the score threshold, by descending score.

        Returns:
            boxes (B, D, 4), scores, labels 0..K-1 and valid (B, D); overflow (B,) bool, true where
            the static back end had more candidates than it considers.
        """
        return select_detections(
            outputs["logits"],
            outputs["deltas"],
            Proposals(outputs["proposals"], outputs["proposals_valid"]),
            size,
            self.detection,
            self.box_head.box_loss.delta_weights,
            self.backend,
        )

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the four terms `rpn_cls`, `rpn_box`, `cls` and `box`."""
        levels = [features[name] for name in self.reads]
        rule = self.rpn.proposals
        anchors = self.rpn.grid(levels, self._padded(features))
        with torch.no_grad():
            dense = self.rpn(levels)
            proposals = self.rpn.propose(
                dense, anchors, batch["size"], rule.train_pre_nms, rule.train_post_nms, self.backend
            )
        table, pooled = pyramid_table(levels), levels[: len(self.pooled)]
        losses = self.rpn.loss(table, anchors, batch)
        with torch.no_grad():
            sampled = self.box_head.sample(proposals, batch)
        return {
            **losses,
            **self.box_head.loss(table, pooled, sampled, batch),
            **self.branch_losses(table, pooled, sampled, batch),
        }

    def branch_losses(
        self, table: PyramidTable, pooled: Sequence[Tensor], sampled: Sampled, batch: Batch
    ) -> dict[str, Tensor]:
        """Returns the terms of further branches on the sampled regions: none here."""
        return {}

    def unreached(self, batch: Batch, padded: tuple[int, int]) -> Tensor:
        """Returns the objects (B, T) that no anchor of the first stage is trained towards."""
        anchors = self.rpn.grid.of_image(padded, batch["boxes"].device)
        return unreached(batch, self.rpn.assign(torch.cat(anchors)))

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns COCO's twelve metrics and the AP of each class."""
        from densekit.metrics import CocoMap

        return {"coco": CocoMap(names=list(info["names"]))}

    def _padded(self, features: Features) -> tuple[int, int]:
        """Height and width of the padded images."""
        shape = features["c0"].shape
        return int(shape[2]), int(shape[3])
