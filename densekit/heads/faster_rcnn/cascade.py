"""Cascade R-CNN: box heads one after the other, each on the boxes of the one before.

Cai & Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", 2018, section 4.
Each stage is trained at a higher IoU than the one before; the settings are those of detectron2.

Shape letters: B images, P proposals, N sampled, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekit.heads.faster_rcnn.box_head import BoxHead
from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.heads.faster_rcnn.regions import Sampled
from densekit.heads.faster_rcnn.rules import BoxLossRule, MatchRule, SamplingRule, StageRule
from densekit.ops.boxes import at_least, clip_boxes, decode_boxes
from densekit.ops.matching import IGNORED, NEGATIVE, POSITIVE, covered, match
from densekit.ops.roi import PyramidTable
from densekit.types import Batch, FeatureSpec

STAGES = (
    StageRule(0.5, (10.0, 10.0, 5.0, 5.0)),
    StageRule(0.6, (20.0, 20.0, 10.0, 10.0)),
    StageRule(0.7, (30.0, 30.0, 15.0, 15.0)),
)


class CascadeBoxHead(nn.Module):
    """Box heads that refine the boxes of each other, in the place of one `BoxHead`.

    Their scores are averaged, and the gradient that reaches the levels is the mean over stages.

    Args:
        specs: Specs of the pooled levels, finest first, named p<number>.
        num_classes: K, without background.
        stage: Makes each `BoxHead`, whose matching and losses are those of the arguments below.
        rules: One `StageRule` per stage.
        beta: See `BoxLossRule`; detectron2 uses 0.
        sampling: Of the regions, which all stages share.

    Raises:
        ValueError: There is no stage.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        stage: Callable[..., BoxHead] = BoxHead,
        rules: Sequence[StageRule] = STAGES,
        beta: float = BoxLossRule.beta,
        sampling: SamplingRule = SamplingRule(512, 0.25),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if not rules:
            raise ValueError("box_head.rules: expected at least one stage, got none")
        self.num_classes, self.sampling = num_classes, sampling
        self.stages = nn.ModuleList(
            stage(
                specs,
                num_classes,
                matching=MatchRule(rule.iou, rule.iou),
                box_loss=BoxLossRule(beta, rule.delta_weights),
                sampling=sampling,
                class_agnostic=True,
            )
            for rule in rules
        )

    @property
    def box_loss(self) -> BoxLossRule:
        """The rule of the last stage, whose boxes are the detections'."""
        return self._heads()[-1].box_loss

    def _heads(self) -> list[BoxHead]:
        return [stage for stage in self.stages if isinstance(stage, BoxHead)]

    def refine(
        self, table: PyramidTable, levels: Sequence[Tensor], proposals: Proposals, size: Tensor
    ) -> dict[str, Tensor]:
        """Returns the outputs of `FasterRCNN.forward`.

        Their proposals are the boxes that the last stage starts from; their logits are the
        logarithms of the class probabilities, averaged over the stages.
        """
        found: list[dict[str, Tensor]] = []
        for stage in self._heads():
            found.append(stage.refine(table, levels, proposals, size))
            boxes = _corrected(stage, found[-1]["deltas"], proposals.boxes, size)
            proposals = Proposals(boxes, proposals.valid)
        logits = torch.stack([one["logits"] for one in found])
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        mean = exact.softmax(-1).mean(0)
        return {**found[-1], "logits": mean.clamp(min=torch.finfo(mean.dtype).tiny).log()}

    def sample(self, proposals: Proposals, batch: Batch) -> Sampled:
        """Samples the regions of the first stage, which the others refine."""
        return self._heads()[0].sample(proposals, batch)

    def loss(
        self, table: PyramidTable, levels: Sequence[Tensor], sampled: Sampled, batch: Batch
    ) -> dict[str, Tensor]:
        """Returns the class and box terms of the stages, `cls_1` and `box_1` those of the first."""
        share = 1 / len(self.stages)
        table = PyramidTable(_Scaled.apply(table.rows, share), table.grids, table.batch)
        levels = [_Scaled.apply(level, share) for level in levels]
        losses: dict[str, Tensor] = {}
        boxes = sampled.boxes
        for number, stage in enumerate(self._heads(), 1):
            if number > 1:
                sampled = self._matched(boxes, sampled.valid, batch, stage.matching)
            terms, deltas = stage.loss_and_deltas(table, levels, sampled, batch)
            losses |= {f"{name}_{number}": term for name, term in terms.items()}
            boxes = _corrected(stage, deltas, sampled.boxes, batch["size"])
        return losses

    @torch.no_grad()
    def _matched(self, boxes: Tensor, valid: Tensor, batch: Batch, rule: MatchRule) -> Sampled:
        """Boxes (B, N, 4) with the objects of a stage's own threshold; empty ones fall out."""
        gt, crowd = batch["boxes"].to(boxes.dtype), batch.get("crowd")
        objects = batch["boxes_valid"] if crowd is None else batch["boxes_valid"] & ~crowd
        index, label = match(gt, objects, boxes, rule)
        if crowd is not None:
            in_crowd = covered(boxes, gt, batch["boxes_valid"] & crowd)
            label = label.masked_fill(in_crowd & (label == NEGATIVE), IGNORED)
        classes = batch["labels"].gather(1, index)
        target = torch.where(label == POSITIVE, classes, self.num_classes)
        return Sampled(boxes, index, target, valid & (label != IGNORED) & at_least(boxes, 0))


@torch.no_grad()
def _corrected(stage: BoxHead, deltas: Tensor, boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (B, P, 4) moved by the deltas (B, P, 1, 4) of a stage and clipped to the images."""
    weights = stage.box_loss.delta_weights
    return clip_boxes(decode_boxes(deltas[:, :, 0], boxes, weights), size)


class _Scaled(torch.autograd.Function):
    """The same values, with a gradient scaled by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
