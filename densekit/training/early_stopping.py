"""Early stopping that ignores validations without a finite metric and says why it stopped."""

from __future__ import annotations

from typing import Any

import lightning.pytorch.callbacks as lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from densekit._names import counted


class EarlyStopping(lightning.EarlyStopping):
    """Lightning's `EarlyStopping`; with `check_finite=False`, non-finite metrics are ignored.

    The Dice of a structure that no validation image shows is NaN, which says nothing about the
    training. A non-finite loss stops the run anyway, see `NonFinite`.

    A resumed run counts on, with the patience that it is configured with.

    Attributes:
        best_epoch: Epoch of the best value so far.
    """

    best_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """Lightning's state and the epoch of the best value."""
        return {**super().state_dict(), "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores all but the patience, which may have been raised to go on."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.best_epoch = state_dict.get("best_epoch", 0)

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        before = self.best_score
        super()._run_early_stopping_check(trainer)
        if self.best_score is not before:
            self.best_epoch = trainer.current_epoch
        if self.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
            verb = "fall below" if self.mode == "min" else "rise above"
            self.stopping_reason_message = (
                f"{self.monitor} did not {verb} {float(self.best_score):.4f}, its value after epoch"
                f" {self.best_epoch}, in {counted(self.wait_count, 'validation')}"
                f" (patience={self.patience})"
            )

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        if not self.check_finite and not torch.isfinite(current):
            return False, None
        return super()._evaluate_stopping_criteria(current)
