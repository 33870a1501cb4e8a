"""Regression losses of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.ops.boxes import box_area, decode_boxes, encode_boxes


def smooth_l1(pred: Tensor, target: Tensor, beta: float) -> Tensor:
    """Elementwise smooth L1 in the dtype of the target (Girshick, "Fast R-CNN", 2015, equation 3).

    Args:
        pred: Deltas of any shape.
        target: The same shape.
        beta: Error at which the loss becomes linear; 0 is plain L1.
    """
    pred = pred.to(target.dtype)
    if beta == 0:
        return F.l1_loss(pred, target, reduction="none")
    return F.smooth_l1_loss(pred, target, beta=beta, reduction="none")


def giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Returns 1 - GIoU of each pair of boxes (..., 4), as (...).

    Args:
        pred: Boxes with sides of at least 0.
        target: As many boxes.
        eps: Keeps the ratios finite where both boxes are empty.
    """
    inner = torch.cat(
        [torch.maximum(pred, target)[..., :2], torch.minimum(pred, target)[..., 2:]], -1
    )
    outer = torch.cat(
        [torch.minimum(pred, target)[..., :2], torch.maximum(pred, target)[..., 2:]], -1
    )
    inter = F.relu(inner[..., 2:] - inner[..., :2]).prod(-1)
    union = box_area(pred) + box_area(target) - inter
    hull = box_area(outer)
    return 1 - (inter / (union + eps) - (hull - union) / (hull + eps))


def paired_iou(pred: Tensor, target: Tensor, eps: float = 1e-16) -> Tensor:
    """Returns the IoU of each pair of boxes (..., 4), as (...).

    Args:
        pred: Boxes with sides of at least 0.
        target: As many boxes.
        eps: Keeps the ratio finite where both boxes are empty.
    """
    near, far = torch.maximum(pred, target)[..., :2], torch.minimum(pred, target)[..., 2:]
    inter = F.relu(far - near).prod(-1)
    return inter / (box_area(pred) + box_area(target) - inter + eps)


@dataclass(frozen=True)
class SmoothL1Box:
    """Smooth L1 between predicted deltas and those of the targets, summed over the four.

    Attributes:
        beta: See `smooth_l1`.
    """

    beta: float = 0.0

    def __call__(self, deltas: Tensor, anchors: Tensor, gt: Tensor) -> Tensor:
        """Returns the loss of each box, (...).

        Args:
            deltas: (..., 4) predictions.
            anchors: (..., 4), with sides above 0.
            gt: (..., 4) target boxes, with sides above 0.
        """
        return smooth_l1(deltas, encode_boxes(gt, anchors), self.beta).sum(-1)


@dataclass(frozen=True)
class GIoUBox:
    """Generalised IoU loss between predicted boxes and the targets.

    Rezatofighi et al., "Generalized Intersection over Union", 2019.
    """

    def __call__(self, deltas: Tensor, anchors: Tensor, gt: Tensor) -> Tensor:
        """Returns the loss of each box, (...), 0 to 2; see `SmoothL1Box` for the arguments."""
        return giou_loss(decode_boxes(deltas, anchors), gt)
