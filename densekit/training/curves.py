"""Training curves: losses, learning rate and main metrics over the optimiser steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from densekit.training.sources import LOSS, is_main, source_names
from densekit.visualization.curves import Series, draw_curves

METRICS_PER_HEAD = 4
"""Heads list their most important metrics first; more curves would not be legible."""


class Curves(Callback):
    """Draws `curves.png` after every validation and at the end; a resumed run extends it.

    Args:
        path: The image file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.series: Series = {}
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._undrawn = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sums the losses on their device; reading each one would stall a GPU every step."""
        # Lightning has divided the loss, but not its terms, by the number of accumulated batches.
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        terms = {"train/loss": loss, **outputs["terms"]}
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(term)) + term
        self._count += 1
        if self._count >= max(int(trainer.log_every_n_steps), 1):  # type: ignore[attr-defined]
            self._note_training(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the metrics and draws."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._note_training(trainer)
        sources = len(source_names(trainer))
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and is_main(name.removeprefix("val/"), sources):
                self._note(name, trainer.global_step, float(value))
        self._draw(trainer, self.series)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the final curves, also of a run without validation.

        What has not been noted yet stays so in the state: a run that is resumed with nothing left
        to train saves it again, and one that trains longer goes on with it.
        """
        rest = self._means(trainer)
        self._undrawn |= bool(rest)
        points = {name: [(trainer.global_step, value)] for name, value in rest.items()}
        ends = {name: self.series.get(name, []) + points[name] for name in points}
        self._draw(trainer, self.series | ends)

    def state_dict(self) -> dict[str, Any]:
        """Returns the curves so far, and the losses since their last point, for a resumed run."""
        return {"series": self.series, "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the curves of the resumed run."""
        self.series = state_dict["series"]
        self._sums, self._count = state_dict.get("sums", {}), state_dict.get("count", 0)
        self._undrawn = bool(self.series)

    def _note_training(self, trainer: Trainer) -> None:
        for name, value in self._means(trainer).items():
            self._note(name, trainer.global_step, value)
        self._sums, self._count = {}, 0

    def _means(self, trainer: Trainer) -> dict[str, float]:
        """The mean losses since their last point, if finite, and the learning rate."""
        if not self._count:
            return {}
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        means["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        return {name: value for name, value in means.items() if math.isfinite(value)}

    def _note(self, name: str, step: int, value: float) -> None:
        if math.isfinite(value):
            self.series.setdefault(name, []).append((step, value))
            self._undrawn = True

    def _draw(self, trainer: Trainer, series: Series) -> None:
        if trainer.is_global_zero and self._undrawn:
            self._undrawn = False
            draw_curves(panels_of(series), self.path)


def panels_of(series: Series) -> dict[str, Series]:
    """Sorts curves into the panels loss, metric and learning rate.

    Args:
        series: By logged name (`train/...`, `val/...`, `lr`), without those of single classes.
    """
    losses = {name: curve for name, curve in series.items() if LOSS in name.split("/")}
    others = {name: curve for name, curve in series.items() if name not in losses}
    rate = {"lr": others.pop("lr", [])}
    return {"loss": losses, "metric": _first_of_each_head(others), "learning rate": rate}


def _first_of_each_head(series: Series) -> Series:
    chosen: Series = {}
    counts: dict[str, int] = {}
    for name, line in series.items():
        head = name.rsplit("/", 1)[0]
        counts[head] = counts.get(head, 0) + 1
        if counts[head] <= METRICS_PER_HEAD:
            chosen[name] = line
    return chosen
