"""Regression losses of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from densekit.ops.boxes import decode_boxes, encode_boxes


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
        loss: Tensor = generalized_box_iou_loss(decode_boxes(deltas, anchors), gt)
        return loss
