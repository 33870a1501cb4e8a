"""The second stage: class scores and box deltas of pooled regions, and its loss.

Girshick, "Fast R-CNN", 2015, with the levels of Lin et al., "Feature Pyramid Networks", 2017.

Shape letters: B images, P proposals, N sampled, R = B N regions, K classes, C channels, o bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.heads.faster_rcnn.regions import PooledLevels, RegionConvs, Sampled, pool_regions
from densekit.heads.faster_rcnn.rules import BoxLossRule, PoolRule, SamplingRule
from densekit.losses.box import smooth_l1
from densekit.ops.boxes import encode_boxes
from densekit.ops.cpu import MADE_BY_AMD
from densekit.ops.dist import global_count
from densekit.ops.hash import mix
from densekit.ops.matching import IGNORED, NEGATIVE, POSITIVE, MatchRule, covered, match
from densekit.ops.portable import portable
from densekit.ops.roi import PyramidTable, image_of_boxes
from densekit.ops.sampling import sample_balanced
from densekit.types import Batch, FeatureSpec

SECOND_STAGE = 2
"""Mixed into the batch's keys, so that the two stages draw different samples."""


class BoxHead(nn.Module):
    """RoIAlign, convolutions, fully connected layers and the two predictors.

    Args:
        specs: Specs of the pooled levels, finest first, named p<number>.
        num_classes: K, without background.
        convs: Channels of each 3x3 convolution on the pooled bins.
        hidden: Widths of the fully connected layers.
        norm: Makes a norm layer from a number of channels, for the convolutions.
        pool: See `PoolRule`.
        matching: See `MatchRule`.
        sampling: See `SamplingRule`.
        box_loss: See `BoxLossRule`.
        class_agnostic: Whether all classes share the deltas (Cascade R-CNN), or have their own.

    Raises:
        ValueError: `hidden` is empty.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        convs: Sequence[int] = (),
        hidden: Sequence[int] = (1024, 1024),
        norm: type[nn.Module] | None = None,
        pool: PoolRule = PoolRule(),  # noqa: B008 - frozen
        matching: MatchRule = MatchRule(0.5, 0.5),  # noqa: B008
        sampling: SamplingRule = SamplingRule(512, 0.25),  # noqa: B008
        box_loss: BoxLossRule = BoxLossRule(delta_weights=(10.0, 10.0, 5.0, 5.0)),  # noqa: B008
        class_agnostic: bool = False,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("box_head.hidden: expected at least one width, got none")
        self.num_classes = num_classes
        self.pool, self.matching, self.sampling, self.box_loss = pool, matching, sampling, box_loss
        self.pooled = PooledLevels.of(specs)
        channels = [next(iter(specs.values())).channels, *convs]
        self.convs = RegionConvs(channels, norm)
        widths = [channels[-1] * pool.output**2, *hidden]
        # the first layer's columns are ordered (row, column, channel), as the pooled bins lie
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.logits = nn.Linear(widths[-1], num_classes + 1)
        self.deltas = nn.Linear(widths[-1], 4 if class_agnostic else num_classes * 4)

    def forward(
        self,
        table: PyramidTable,
        levels: Sequence[Tensor],
        boxes: Tensor,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predicts class logits and box deltas of every region.

        Args:
            table: Cells of all levels the detector reads; the pooled ones come first.
            levels: The pooled levels.
            boxes: (B, P, 4).
            valid: (B, P) bool, the slots that enter a batch norm's statistics in training; all by
                default.

        Returns:
            Logits (B, P, K + 1), background last, and deltas (B, P, K, 4), of one class if they are
            class-agnostic.
        """
        image = image_of_boxes(boxes)
        bins, place = pool_regions(
            table, levels, boxes.flatten(0, 1), image, self.pooled, self.pool
        )
        x = self.convs(bins, None if valid is None else valid.flatten())  # (R, o, o, C)
        first, *others = self.hidden
        assert isinstance(first, nn.Linear)
        x = first_linear(x, first.weight, first.bias).relu()
        for layer in others:
            x = layer(x).relu()
        logits, deltas = self.logits(x), self.deltas(x)
        if place is not None:
            logits, deltas = logits[place], deltas[place]
        shape = boxes.shape[:2]
        return logits.view(*shape, -1), deltas.view(*shape, -1, 4)

    def refine(
        self, table: PyramidTable, levels: Sequence[Tensor], proposals: Proposals, size: Tensor
    ) -> dict[str, Tensor]:
        """Returns the outputs of `FasterRCNN.forward` for proposals of images of `size` (B, 2)."""
        logits, deltas = self(table, levels, proposals.boxes)
        return {
            "proposals": proposals.boxes,
            "proposals_valid": proposals.valid,
            "logits": logits,
            "deltas": deltas,
        }

    def sample(self, proposals: Proposals, batch: Batch) -> Sampled:
        """Samples the regions of the loss among proposals and ground truth."""
        gt, gt_valid = batch["boxes"].to(proposals.boxes.dtype), batch["boxes_valid"]
        crowd = batch.get("crowd")
        objects = gt_valid if crowd is None else gt_valid & ~crowd
        boxes = torch.cat([proposals.boxes, gt], 1)
        index, label = match(gt, objects, boxes, self.matching)
        if crowd is not None:
            in_crowd = covered(boxes, gt, gt_valid & crowd)
            label = label.masked_fill(in_crowd & (label == NEGATIVE), IGNORED)
        usable = torch.cat([proposals.valid, objects], 1) & batch["sample_valid"][:, None]
        label = label.masked_fill(~usable, IGNORED)
        key = mix(batch["key"], SECOND_STAGE)
        rule = self.sampling
        rows, valid = sample_balanced(label, key, rule.count, rule.positive_fraction)
        index = index.gather(1, rows)
        positive = label.gather(1, rows) == POSITIVE
        target = torch.where(positive, batch["labels"].gather(1, index), self.num_classes)
        return Sampled(boxes.gather(1, rows[..., None].expand(-1, -1, 4)), index, target, valid)

    def loss(
        self, table: PyramidTable, levels: Sequence[Tensor], sampled: Sampled, batch: Batch
    ) -> dict[str, Tensor]:
        """Returns the class and box terms of the sampled regions."""
        return self.loss_and_deltas(table, levels, sampled, batch)[0]

    def loss_and_deltas(
        self, table: PyramidTable, levels: Sequence[Tensor], sampled: Sampled, batch: Batch
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the terms of `loss`, and the predicted deltas (B, N, K, 4)."""
        boxes, index, target, valid = sampled
        with torch.no_grad():
            gt = batch["boxes"].gather(1, index[..., None].expand(-1, -1, 4))
            positive = (target < self.num_classes) & valid
            dtype = torch.promote_types(table.rows.dtype, torch.float32)
            delta_target = encode_boxes(
                gt.to(dtype), boxes.to(dtype), self.box_loss.delta_weights
            ).masked_fill(~positive[..., None], 0)
            drawn = valid.sum()
            count = global_count(
                drawn if self.sampling.divide_by_drawn else torch.full_like(drawn, valid.numel())
            )
            boxes = torch.where(valid[..., None], boxes, 0.0)  # an empty slot may hold no real box
        logits, deltas = self(table, levels, boxes, valid)
        entropy = F.cross_entropy(
            logits.to(dtype).flatten(0, 1), target.flatten(), reduction="none"
        ).view_as(target)
        own = target.clamp(max=deltas.shape[2] - 1)[..., None, None].expand(-1, -1, 1, 4)
        error = smooth_l1(deltas.gather(2, own)[:, :, 0], delta_target, self.box_loss.beta)
        terms = {
            "cls": (entropy * valid).sum() / count,
            "box": (error * positive[..., None]).sum() / count,
        }
        return terms, deltas


def first_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The first and widest linear layer: (R, o, o, C) to (R, hidden).

    In float32 on AMD CPUs it runs as a convolution over the bins: for the matrix product MKL falls
    back to a generic kernel there, 1.8 times slower. The results are the same.

    Args:
        x: Pooled bins, channels last.
        weight: (hidden, o * o * C), columns ordered by row, column, channel.
        bias: (hidden,).
    """
    on_cpu = x.device.type == "cpu" and not portable()
    if on_cpu and x.dtype == torch.float32 and MADE_BY_AMD:
        _, rows, columns, channels = x.shape
        kernel = weight.view(-1, rows, columns, channels).permute(0, 3, 1, 2)
        return F.conv2d(x.permute(0, 3, 1, 2), kernel, bias).flatten(1)
    return F.linear(x.flatten(1), weight, bias)
