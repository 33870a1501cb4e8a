"""The regression loss of box deltas."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
