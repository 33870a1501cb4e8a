"""Learning-rate range test (Smith 2017, Cyclical Learning Rates, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from densekit.ops import dist
from densekit.training.optim import setting
from densekit.visualization.curves import draw_range

DIVERGED = 4.0
"""Factor above the lowest loss at which the test ends."""
RECENT = 3
"""Steps whose mean loss is compared: the loss of a single batch is noisy."""
WINDOW = 0.1
"""Share of the steps over which the loss is averaged for the suggestion."""
CLEAR = 4.0
"""Factor above its noise of a fall that is no coincidence."""
FEWEST = 10
"""Fewest steps that make a curve."""


class Suggestion(NamedTuple):
    """What a range test finds.

    Attributes:
        rate: A tenth of the learning rate with the lowest loss, which is close to divergence.
        halfway: Learning rate at which half of the fall of the loss is reached: a cautious choice.
    """

    rate: float
    halfway: float


class LrFinder(Callback):
    """Raises the learning rate exponentially over the run, draws the loss and suggests a rate.

    The rates of all parameter groups are raised together, so that their ratios (`lr_multipliers`)
    stay. It replaces the schedule; the run ends where the loss diverges.

    Args:
        path: PNG file of the loss over `optimizer.lr`.
        low: First factor of the configured learning rate.
        high: Last factor.
    """

    def __init__(self, path: str | Path, low: float = 1e-4, high: float = 100.0) -> None:
        if not 0 < low < high:
            raise ValueError(
                f"callbacks.lr_finder: expected 0 < low < high, got low={low}, high={high}"
            )
        self.path = Path(path)
        self.low, self.high = low, high
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._parts: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Replaces the schedule, before the optimiser is built with it."""
        lit: Any = pl_module
        lit.schedule = self._factor

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the loss at the rate of the step, and ends the run if it diverges."""
        lit: Any = pl_module
        self._parts.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        if trainer.global_step == len(self.losses):  # accumulates further batches
            return
        each = [loss for of_rank in dist.gathered(self._parts) for loss in of_rank]
        self._parts = []
        factor = self._factor(len(self.losses), trainer.estimated_stepping_batches)
        self.rates.append(setting(lit.optimizer, "lr") * factor)
        self.losses.append(sum(each) / len(each))
        trainer.should_stop = trainer.should_stop or diverges(self.losses)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the curve and prints the suggestion."""
        real = [
            (r, loss)
            for r, loss in zip(self.rates, self.losses, strict=True)
            if math.isfinite(loss)
        ]
        if len(real) < FEWEST:
            rank_zero_info(
                f"learning rate: expected at least {FEWEST} steps with a finite loss, got"
                f" {len(real)}; lower optimizer.lr or raise trainer.max_steps"
            )
            return
        rates, losses = [rate for rate, _ in real], [loss for _, loss in real]
        found = suggest(rates, losses)
        if trainer.is_global_zero:
            rate = found.rate if found else None
            draw_range(rates, losses, smoothed(losses).tolist(), rate, self.path)
        line = "the loss does not fall clearly; raise trainer.max_steps"
        if found:
            line = (
                f"try optimizer.lr={found.rate:.2g}, a tenth of the rate with the lowest loss; half"
                f" of its fall is reached at {found.halfway:.2g}"
            )
        rank_zero_info(f"learning rate: {line} ({self.path})")

    def _factor(self, step: int, total_steps: float) -> float:
        """See `Schedule`."""
        return float(self.low * (self.high / self.low) ** (step / max(total_steps - 1, 1)))


def diverges(losses: Sequence[float]) -> bool:
    """Whether the last loss is not finite, or the recent ones are far above the lowest."""
    if not math.isfinite(losses[-1]):
        return True
    means = np.convolve(losses, np.full(RECENT, 1 / RECENT), mode="valid")
    return len(losses) >= FEWEST and bool(means[-1] > DIVERGED * means.min() > 0)


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """The losses averaged over their neighbours, fewer at both ends."""
    reach = max(1, round(len(losses) * WINDOW / 2))
    padded = [losses[max(0, i - reach) : i + reach + 1] for i in range(len(losses))]
    return np.array([np.mean(part) for part in padded])


def suggest(rates: Sequence[float], losses: Sequence[float]) -> Suggestion | None:
    """Finds a learning rate, None if the loss does not fall.

    Unlike the steepest point, both rates hardly move with the noise of single batches.

    Args:
        rates: Rising exponentially.
        losses: Finite, one per rate.
    """
    smooth = smoothed(losses)
    lowest = int(smooth.argmin())
    noise = np.std(np.subtract(losses, smooth)[: lowest + 1]) / math.sqrt(WINDOW * len(losses))
    fall = smooth[0] - smooth[lowest]
    if fall <= CLEAR * noise:
        return None
    above = np.flatnonzero(smooth[: lowest + 1] >= smooth[lowest] + fall / 2)
    return Suggestion(rates[lowest] / 10, rates[int(above[-1])])
