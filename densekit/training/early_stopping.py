"""Early stopping that can ignore validations without a finite metric."""

from __future__ import annotations

import lightning.pytorch.callbacks as lightning
import torch
from torch import Tensor


class EarlyStopping(lightning.EarlyStopping):
    """Lightning's `EarlyStopping`; with `check_finite=False`, non-finite metrics are ignored.

    The Dice of a structure that no validation image shows is NaN, which says nothing about the
    training. A non-finite loss stops the run anyway, see `NonFinite`.
    """

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        if not self.check_finite and not torch.isfinite(current):
            return False, None
        return super()._evaluate_stopping_criteria(current)
