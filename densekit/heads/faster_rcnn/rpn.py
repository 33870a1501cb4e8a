"""Region proposal network whose training graph covers only the sampled anchors.

Ren et al., "Faster R-CNN", 2015, section 3. The dense pass over all anchors makes the proposals and
needs no gradient. The loss uses some 256 anchors per image, so their outputs are computed a second
time, from the (2d + 1) x (2d + 1) patches around them (d: depth of the head). The gradients are
those of the dense graph.

Shape letters: B images, A anchors of all levels, a anchors of one cell, C channels, N sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.anchors import Assign, anchor_grid, label_anchors
from densekit.heads.faster_rcnn.proposals import Proposals, best_of_levels, select_proposals
from densekit.heads.faster_rcnn.rules import BoxLossRule, ProposalRule, SamplingRule
from densekit.losses.box import smooth_l1
from densekit.ops.boxes import encode_boxes
from densekit.ops.constants import constant
from densekit.ops.dist import global_count
from densekit.ops.matching import POSITIVE, MatchRule, match
from densekit.ops.nms import Backend
from densekit.ops.roi import PyramidTable
from densekit.ops.sampling import sample_balanced
from densekit.types import Batch, FeatureSpec

ANCHOR_SCALE = 8
"""Default anchor size in multiples of its level's stride: 32 pixels on p2 (FPN, section 4.1)."""


class Dense(NamedTuple):
    """Outputs of every anchor, one tensor per level: logits (B, A_l) and deltas (B, A_l, 4)."""

    logits: list[Tensor]
    deltas: list[Tensor]


class Cells(NamedTuple):
    """Lookup tables of the levels, each (L,): first anchor, first row, height, width."""

    anchor: Tensor
    row: Tensor
    height: Tensor
    width: Tensor


@constant
def _cells(
    grids: tuple[tuple[int, int], ...], batch: int, per_cell: int, device: torch.device
) -> Cells:
    sides = torch.tensor(grids, device="cpu")
    count = sides.prod(1)
    start = count.cumsum(0) - count
    return Cells(*(t.to(device) for t in (start * per_cell, start * batch, *sides.unbind(1))))


class RPN(nn.Module):
    """Predicts an objectness score and box deltas for the anchors of every level.

    Args:
        specs: Specs of the levels, finest first, all with the same channels.
        sizes: Anchor sizes of each level in pixels; one of 8 strides by default.
        aspect_ratios: Height over width.
        depth: Number of 3x3 convolutions before the predictors; torchvision's v2 has 2.
        round_anchors: Round corners to whole pixels (torchvision).
        grid_strides: Use padded side // cells as the stride (torchvision), which differs from
            the level's where its cells were rounded up; else the level's own (detectron2).
        proposals: See `ProposalRule`.
        matching: See `MatchRule`.
        sampling: See `SamplingRule`.
        box_loss: See `BoxLossRule`.

    Raises:
        ValueError: `sizes` has not one list of equal length per level.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        *,
        sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        depth: int = 1,
        round_anchors: bool = True,
        grid_strides: bool = True,
        proposals: ProposalRule = ProposalRule(),  # noqa: B008 - frozen
        matching: MatchRule = MatchRule(0.7, 0.3, low_quality=True),  # noqa: B008
        sampling: SamplingRule = SamplingRule(256, 0.5),  # noqa: B008
        box_loss: BoxLossRule = BoxLossRule(),  # noqa: B008
    ) -> None:
        super().__init__()
        strides = [spec.stride[0] for spec in specs.values()]
        self.grid = anchor_grid(
            "rpn.sizes",
            specs,
            sizes or [[ANCHOR_SCALE * stride] for stride in strides],
            aspect_ratios,
            rounded=round_anchors,
            grid_strides=grid_strides,
        )
        self.proposals, self.matching = proposals, matching
        self.sampling, self.box_loss = sampling, box_loss
        channels, per_cell = next(iter(specs.values())).channels, self.grid.per_cell
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)
        )
        self.logits = nn.Conv2d(channels, per_cell, 1)
        self.deltas = nn.Conv2d(channels, per_cell * 4, 1)
        for conv in [*self.convs, self.logits, self.deltas]:
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    @property
    def per_cell(self) -> int:
        """Number of anchors per cell, a."""
        return self.grid.per_cell

    def forward(self, levels: Sequence[Tensor]) -> Dense:
        """Predicts the outputs of every anchor, ordered by row, column, anchor of the cell.

        Args:
            levels: (B, C, h, w) each.
        """
        # one 1x1 convolution for both predictors, to read the features once
        weight = torch.cat([self.logits.weight, self.deltas.weight])
        bias = torch.cat([self.logits.bias, self.deltas.bias])  # type: ignore[list-item]
        logits, deltas = [], []
        for x in levels:
            for conv in self._convs():
                x = F.conv2d(x, *_parameters(conv), padding=1).relu_()
            out = F.conv2d(x, weight, bias).permute(0, 2, 3, 1)  # (B, h, w, 5a)
            logit, delta = out.split([self.per_cell, 4 * self.per_cell], -1)
            logits.append(logit.flatten(1))
            deltas.append(delta.reshape(x.shape[0], -1, 4))
        return Dense(logits, deltas)

    def _convs(self) -> list[nn.Conv2d]:
        return [conv for conv in self.convs if isinstance(conv, nn.Conv2d)]

    def propose(
        self,
        dense: Dense,
        anchors: Tensor,
        size: Tensor,
        pre: int,
        post: int,
        backend: Backend | None,
    ) -> Proposals:
        """Keeps `pre` anchors per level and `post` proposals per image: (B, P) with P <= post."""
        rule = self.proposals
        logits, boxes = best_of_levels(
            dense.logits, dense.deltas, anchors, pre, self.box_loss.delta_weights
        )
        return select_proposals(logits, boxes, size, post, rule.nms_iou, rule.min_size, backend)

    def assign(self, anchors: Tensor) -> Assign:
        """Returns how objects are assigned to anchors (A, 4), by IoU."""
        return partial(match, boxes=anchors, rule=self.matching)

    def loss(self, table: PyramidTable, anchors: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Returns the objectness and box terms of the sampled anchors.

        Args:
            table: Cells of all levels.
            anchors: (A, 4).
            batch: Its boxes, `key` and `boxes_valid`.
        """
        with torch.no_grad():
            index, label = label_anchors(anchors, batch, self.assign(anchors))
            rule = self.sampling
            sampled, valid = sample_balanced(
                label, batch["key"], rule.count, rule.positive_fraction
            )
            valid = valid & batch["sample_valid"][:, None]
            positive = (label.gather(1, sampled) == POSITIVE) & valid  # (B, N)
            gt = batch["boxes"].gather(1, index.gather(1, sampled)[..., None].expand(-1, -1, 4))
            dtype = torch.promote_types(table.rows.dtype, torch.float32)
            picked = anchors[sampled].to(dtype)
            target = encode_boxes(gt.to(dtype), picked, self.box_loss.delta_weights)
            target = target.masked_fill(~positive[..., None], 0)  # empty slots encode to log(0)
            drawn = valid.sum()
            slots = torch.full_like(drawn, valid.numel())
            count = global_count(drawn if rule.divide_by_drawn else slots)
        logits, deltas = self.at(table, sampled)
        entropy = F.binary_cross_entropy_with_logits(
            logits.to(dtype), positive.to(dtype), reduction="none"
        )
        error = smooth_l1(deltas, target, self.box_loss.beta)
        return {
            "rpn_cls": (entropy * valid).sum() / count,
            "rpn_box": (error * positive[..., None]).sum() / count,
        }

    def at(self, table: PyramidTable, sampled: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts the outputs of sampled anchors, equal to those of `forward`.

        Args:
            table: Cells of all levels.
            sampled: (B, N) int64, indices of anchors.

        Returns:
            Logits (B, N) and deltas (B, N, 4).
        """
        images, count = sampled.shape
        reach = len(self.convs)
        rows, inside, cell_anchor = self._patches(table, sampled, reach)
        side = 2 * reach + 1
        x = F.embedding(rows, table.rows)  # (B N, side^2, C)
        # not a product: positions outside read a cell of the first image, which may be NaN
        x = torch.where(inside[..., None] > 0, x, 0.0)
        x = x.view(len(x), side, side, -1).permute(0, 3, 1, 2)
        mask = inside.view(-1, 1, side, side)
        for conv in self._convs()[:-1]:
            mask = mask[..., 1:-1, 1:-1]
            # the dense convolution sees zeros beyond the border, not what lies there
            x = F.conv2d(x, conv.weight, conv.bias).relu() * mask
        x = x.permute(0, 2, 3, 1).flatten(1)
        for conv in self._convs()[-1:]:  # one window is left: a matrix product is faster
            x = F.linear(x, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias).relu()
        logits = F.linear(x, self.logits.weight.flatten(1), self.logits.bias)  # (B N, a)
        deltas = F.linear(x, self.deltas.weight.flatten(1), self.deltas.bias)
        logits = logits.gather(1, cell_anchor[:, None])
        deltas = deltas.view(len(x), -1, 4).gather(1, cell_anchor[:, None, None].expand(-1, 1, 4))
        return logits.view(images, count), deltas.view(images, count, 4)

    def _patches(
        self, table: PyramidTable, sampled: Tensor, reach: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the cells around each sample, whether each lies inside, and its cell anchor."""
        cells = _cells(table.grids, table.batch, self.per_cell, sampled.device)
        flat = sampled.flatten()
        image = torch.arange(table.batch, device=flat.device).repeat_interleave(sampled.shape[1])
        level = torch.bucketize(flat, cells.anchor, right=True) - 1
        cell, cell_anchor = (
            (flat - cells.anchor[level]).div(self.per_cell, rounding_mode="floor"),
            (flat - cells.anchor[level]) % self.per_cell,
        )
        height, width = cells.height[level], cells.width[level]
        offset = torch.arange(-reach, reach + 1, device=flat.device)
        y = (cell // width)[:, None] + offset  # (B N, side)
        x = (cell % width)[:, None] + offset
        in_y = (y >= 0) & (y < height[:, None])
        in_x = (x >= 0) & (x < width[:, None])
        inside = (in_y[:, :, None] & in_x[:, None, :]).flatten(1)
        first = cells.row[level] + image * height * width
        rows = first[:, None, None] + y[:, :, None] * width[:, None, None] + x[:, None, :]
        rows = torch.where(inside, rows.flatten(1), 0)
        return rows, inside.to(table.rows.dtype), cell_anchor


def _parameters(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias; detached under no_grad, or autocast would cache a copy without graph."""
    assert conv.bias is not None
    if torch.is_grad_enabled():
        return conv.weight, conv.bias
    return conv.weight.detach(), conv.bias.detach()
