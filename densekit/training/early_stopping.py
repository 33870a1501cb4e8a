"""Stopping when the watched metric no longer gets better."""

from __future__ import annotations

import lightning.pytorch.callbacks as lightning
import torch
from torch import Tensor


class EarlyStopping(lightning.EarlyStopping):
    """Lightning's, but with `check_finite=False` a metric without a value counts neither way.

    A structure that the validation images do not show has no Dice (NaN), which says nothing of the
    training. A loss that is not finite stops a run by itself, see `NonFinite`.
    """

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        if not self.check_finite and not torch.isfinite(current):
            return False, None
        return super()._evaluate_stopping_criteria(current)
