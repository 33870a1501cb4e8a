"""Bootstrap intervals of the metrics of a run."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from densekit.metrics.bootstrap import RESAMPLES, Interval
from densekit.training.sources import log_name


class Intervals(Callback):
    """Draws 95 % intervals of metrics: of a test, `densekit eval`, and the last validation.

    `MetricsTable` and `MetricsFile` show them, so it comes before them. Images are drawn with the
    others of their group: `group` or `identity` of their ground truth.

    Args:
        resamples: Number of draws of the images; 0 draws none.

    Raises:
        ValueError: The number is negative.
    """

    def __init__(self, resamples: int = RESAMPLES) -> None:
        if resamples < 0:
            raise ValueError(f"Intervals.resamples: expected 0 or more, got {resamples}")
        self.resamples = resamples

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws them for `densekit eval`."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws them for the test."""
        self._draw(trainer, pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws them for the last validation."""
        if pl_module.validated_step is not None:  # else there was a sanity check at most
            self._draw(trainer, pl_module, "val")

    def _draw(self, trainer: Trainer, lit: Any, stage: str) -> None:
        if self.resamples and trainer.is_global_zero:
            for metrics in lit.metric_sets(stage).values():
                metrics.draw_intervals(self.resamples)


def logged_intervals(trainer: Trainer, lit: Any, stage: str) -> dict[str, Interval]:
    """Logged name of a metric to its interval, for those that have one.

    Args:
        trainer: Of the run.
        lit: Its `LitModel`.
        stage: "val" or "test".
    """
    return {
        log_name(trainer, stage, source, name): ends
        for source, metrics in lit.metric_sets(stage).items()
        for name, ends in metrics.intervals.items()
    }
