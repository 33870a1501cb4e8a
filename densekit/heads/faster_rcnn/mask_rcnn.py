"""Mask R-CNN: Faster R-CNN with a mask branch on the regions of objects.

He et al., "Mask R-CNN", 2017. In training the branch sees the positive ones of the sampled regions,
in prediction the detections that are left after suppression.

Shape letters: B images, N sampled slots, R regions, K classes, D detections, m bins of a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densekit.heads.faster_rcnn.faster_rcnn import FasterRCNN
from densekit.heads.faster_rcnn.mask_head import MaskHead
from densekit.heads.faster_rcnn.regions import Sampled
from densekit.ops.nms import default_backend
from densekit.ops.roi import PyramidTable
from densekit.types import Batch, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric


class MaskRCNN(FasterRCNN):
    """Detects objects and the pixels that belong to each.

    The defaults are torchvision's v1; in its v2 the mask branch has a batch norm too.

    Args:
        specs: Specs of all available levels.
        num_classes: K, without background.
        mask_head: Makes the mask branch from the specs of the pooled levels and K.
        **settings: Those of `FasterRCNN`.
    """

    target_keys = ("boxes", "boxes_valid", "labels", "object_masks")
    main_metric = ("mask_AP", "max")

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        mask_head: Callable[..., MaskHead] = MaskHead,
        **settings: Any,
    ) -> None:
        super().__init__(specs, num_classes, **settings)
        self.mask_head = mask_head({name: specs[name] for name in self.pooled}, num_classes)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns the detections and the logits of their masks.

        Returns:
            boxes, scores, labels, valid and overflow as those of `FasterRCNN.decode`, and
            mask_logits (B, D, m, m) in the frame of each box, of the detection's class.
        """
        table, pooled, outputs = self.refined(features, size)
        found = super().decode(outputs, size)
        return {**found, "mask_logits": self._masks(table, pooled, found)}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Returns the detections, and masks (B, D, m, m): probabilities, 0 in empty slots."""
        found = dict(outputs)
        logits = found.pop("mask_logits")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        masks = torch.where(found["valid"][..., None, None], logits.sigmoid(), 0.0)
        return {**found, "masks": masks}

    def _masks(self, table: PyramidTable, pooled: Sequence[Tensor], found: Predictions) -> Tensor:
        """Logits (B, D, m, m) of the detections, on CPUs of the valid ones alone."""
        valid, slots = found["valid"], found["valid"].shape[1]
        rows = self._rows(valid, slots)
        image = rows.div(slots, rounding_mode="floor")
        counts = valid.flatten()[rows]
        boxes = torch.where(counts[:, None], found["boxes"].flatten(0, 1)[rows], 0.0)
        logits: Tensor = self.mask_head(
            table, pooled, boxes, image, found["labels"].flatten()[rows]
        )
        if self._skips_empty_slots(valid):
            every = logits.new_zeros(valid.numel(), *logits.shape[1:])
            logits = every.index_copy(0, rows, logits)
        return logits.view(-1, slots, *logits.shape[1:])

    def branch_losses(
        self, table: PyramidTable, pooled: Sequence[Tensor], sampled: Sampled, batch: Batch
    ) -> dict[str, Tensor]:
        """Returns the term `mask`."""
        rule = self.box_head.sampling
        positive = sampled.valid & (sampled.target < self.num_classes)
        rows = self._rows(positive, int(rule.count * rule.positive_fraction))
        return {"mask": self.mask_head.loss(table, pooled, sampled, batch, rows)}

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns COCO's metrics of boxes, and of masks (`mask_AP` and the others)."""
        from densekit.metrics import CocoMaskMap

        return {**super().make_metrics(info), "masks": CocoMaskMap(names=list(info["names"]))}

    def _rows(self, counts: Tensor, first: int) -> Tensor:
        """Slots that the branch computes, as rows (R,) of the flattened slots (B, N).

        Where waiting for the device is free these are the slots that count, or one if none does;
        else the first ones of each image, however many of them count.
        """
        if self._skips_empty_slots(counts):
            rows = counts.flatten().nonzero()[:, 0]
            return rows if len(rows) else rows.new_zeros(1)
        images, slots = counts.shape
        start = torch.arange(images, device=counts.device)[:, None] * slots
        return (start + torch.arange(min(first, slots), device=counts.device)).flatten()

    def _skips_empty_slots(self, like: Tensor) -> bool:
        backend = self.backend or default_backend(like.device)
        return backend == "ragged" and not torch.compiler.is_compiling()
