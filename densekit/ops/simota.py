"""Assignment of objects to points by what the network predicts there (SimOTA), in bounded memory.

Shape letters: B images, T target slots, t of one chunk, A points of all levels, K classes, Q the
most points of an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.ops.boxes import box_iou
from densekit.ops.matching import NEGATIVE, POSITIVE, chunks

TABLES = 6
"""Tables (B, t, A) that are alive at once."""
FARTHER = 1e5
"""Cost of a point that is not central in its object: more than all other costs."""
SMALLEST_IOU = 1e-8
LEAST_LOG = -100.0
"""Limit of the logarithm of a probability, as in torch's binary cross-entropy."""


@dataclass(frozen=True)
class SimOTARule:
    """When a point belongs to an object (Ge et al., "YOLOX", 2021, section 2.1).

    Attributes:
        radius: A point is near an object less than this many strides from its centre, on either
            axis.
        in_box: Whether the points in an object's box may be its own too; those that are both in
            the box and near the centre come first. False, with a radius of 1.5, is YOLOX 0.3.
        candidates: An object gets as many points as the IoU of its best points of this number sum
            up to, at least one.
        iou_weight: Weight of the IoU in the cost of a point.
    """

    radius: float = 2.5
    in_box: bool = True
    candidates: int = 10
    iou_weight: float = 3.0


class Predicted(NamedTuple):
    """What the network predicts at the points, without gradients.

    Attributes:
        boxes: (B, A, 4).
        logits: Of the classes, (B, A, K), in full precision.
        objectness: Logits (B, A), in full precision.
    """

    boxes: Tensor
    logits: Tensor
    objectness: Tensor


@torch.no_grad()
def match_by_cost(
    gt: Tensor, valid: Tensor, labels: Tensor, points: Tensor, found: Predicted, rule: SimOTARule
) -> tuple[Tensor, Tensor]:
    """Finds the object of each point.

    An object takes the points of least cost; a point that several take belongs to the object to
    which it costs least.

    Args:
        gt: (B, T, 4) boxes of the objects.
        valid: (B, T) bool, which slots hold an object.
        labels: (B, T) classes of the objects.
        points: (A, 4) squares around the points, whose sides are the strides.
        found: Predictions at the points.
        rule: Limits and weights.

    Returns:
        The index of each point's object, (B, A) int64, and the label of each point, (B, A) int8:
        `POSITIVE` or `NEGATIVE`.
    """
    images, slots, count = gt.shape[0], gt.shape[1], len(points)
    candidate = _candidates(gt, valid, points, rule)
    classification = _classification_cost(found)
    first = torch.full((images, count), slots, dtype=torch.int64, device=gt.device)
    last = torch.full_like(first, -1)  # the first and the last object that takes each point
    cheapest, least = torch.zeros_like(first), torch.full_like(found.objectness, torch.inf)
    for chunk in _chunks(gt, points):
        part, owner = gt[:, chunk], torch.arange(slots, device=gt.device)[chunk, None]
        possible = candidate[:, None] & valid[:, chunk, None]  # (B, t, A)
        iou = box_iou(part, found.boxes).nan_to_num_(nan=0.0)
        cost = classification.of(labels[:, chunk])
        cost = cost - rule.iou_weight * torch.log(iou + SMALLEST_IOU)
        cost = cost + FARTHER * ~_position(part, points, rule).preferred
        cost = torch.where(possible, cost, torch.inf)
        taken, point = _taken(cost, torch.where(possible, iou, 0.0), rule.candidates)
        point = point.flatten(1)
        first.scatter_reduce_(1, point, torch.where(taken, owner, slots).flatten(1), "amin")
        last.scatter_reduce_(1, point, torch.where(taken, owner, -1).flatten(1), "amax")
        value, position = cost.min(1)
        cheapest = torch.where(value < least, position + chunk.start, cheapest)
        least = torch.minimum(value, least)
    positive = last >= 0
    index = torch.where(last > first, cheapest, first)  # of several, the one of least cost
    label = torch.where(positive, POSITIVE, NEGATIVE).to(torch.int8)
    return torch.where(positive, index, 0), label


def in_reach(gt: Tensor, points: Tensor, rule: SimOTARule) -> Tensor:
    """Returns which objects (B, T) have a point that may be theirs, whatever is predicted.

    Args:
        gt: (B, T, 4) boxes of the objects.
        points: (A, 4) squares around the points, whose sides are the strides.
        rule: Limits.
    """
    slices = _chunks(gt, points)
    parts = [_position(gt[:, chunk], points, rule).allowed.any(2) for chunk in slices]
    return torch.cat(parts, 1)


def _chunks(gt: Tensor, points: Tensor) -> Iterator[slice]:
    """Slices of the targets; the same for both passes."""
    return iter(chunks(gt.shape[1], len(points) * TABLES, gt.shape[0]))


def _candidates(gt: Tensor, valid: Tensor, points: Tensor, rule: SimOTARule) -> Tensor:
    """Which points (B, A) may be those of any object."""
    found = torch.zeros((len(gt), len(points)), dtype=torch.bool, device=gt.device)
    for chunk in _chunks(gt, points):
        found |= (_position(gt[:, chunk], points, rule).allowed & valid[:, chunk, None]).any(1)
    return found


class _Position(NamedTuple):
    """Which points may be an object's, and which of them come first, both (B, t, A)."""

    allowed: Tensor
    preferred: Tensor


def _position(gt: Tensor, points: Tensor, rule: SimOTARule) -> _Position:
    stride = points[:, 2] - points[:, 0]  # (A,)
    point = 0.5 * (points[:, :2] + points[:, 2:])  # (A, 2)
    centre = 0.5 * (gt[..., None, :2] + gt[..., None, 2:])  # (B, t, 1, 2)
    near = (point - centre).abs().amax(-1) < rule.radius * stride
    if not rule.in_box:
        return _Position(near, near)
    sides = torch.minimum(point - gt[..., None, :2], gt[..., None, 2:] - point)
    inside = sides.amin(-1) > 0
    return _Position(near | inside, near & inside)


class _ClassificationCost(NamedTuple):
    """Binary cross-entropy of the points' scores for each class as the target, summed over all.

    Attributes:
        of_none: (B, A), as if no class were the target.
        of_class: (B, K, A), what it changes if this class is.
    """

    of_none: Tensor
    of_class: Tensor

    def of(self, labels: Tensor) -> Tensor:
        """Returns the cost (B, t, A) of the classes `labels` (B, t)."""
        rows = labels[..., None].expand(-1, -1, self.of_class.shape[2])
        return self.of_none[:, None] + self.of_class.gather(1, rows)


def _classification_cost(found: Predicted) -> _ClassificationCost:
    """The score of a class is the root of its probability times the objectness."""
    log_score = 0.5 * (F.logsigmoid(found.logits) + F.logsigmoid(found.objectness)[..., None])
    of_other = -torch.log(-torch.expm1(log_score)).clamp(min=LEAST_LOG)  # (B, A, K)
    of_own = -log_score.clamp(min=LEAST_LOG)
    return _ClassificationCost(of_other.sum(2), (of_own - of_other).transpose(1, 2))


def _taken(cost: Tensor, iou: Tensor, candidates: int) -> tuple[Tensor, Tensor]:
    """Which points each object takes: whether, and the points' indices, both (B, t, Q)."""
    most = min(candidates, cost.shape[2])
    number = iou.topk(most, 2).values.sum(2).int().clamp(min=1)  # (B, t)
    value, point = cost.topk(most, 2, largest=False)
    return (torch.arange(most, device=cost.device) < number[..., None]) & value.isfinite(), point
