"""Schedules: their values, against torch's own, and how the Trainer applies them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from densekit.training import Constant, Cosine, OneCycle, Step
from densekit.training.schedules import Schedule
from tests.unit.training.fakes import FakeData, fake_lit, trainer

ALL = [Constant(5), Cosine(5), Step([0.5, 0.75], warmup_steps=5), OneCycle()]


def torchs(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        (Cosine(), partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=40)),
        (Step([0.5, 0.75]), partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[20, 30])),
        (
            Constant(10, 0.1),
            partial(torch.optim.lr_scheduler.LinearLR, start_factor=0.1, total_iters=10),
        ),
    ],
)
def test_values_are_torchs(schedule: Schedule, reference: Any) -> None:
    found = [schedule(step, 40) for step in range(40)]
    assert found == pytest.approx(torchs(reference, 40), abs=1e-9)


def test_one_cycle_is_torchs_up_to_its_off_by_one() -> None:
    # torch puts the peak at 0.3 * steps - 1 and the end at steps - 1.
    reference = torchs(
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=1001), 1001
    )
    schedule = OneCycle()
    found = [schedule(step, 1000) for step in range(1001)]
    assert found == pytest.approx(reference, abs=5e-3)
    assert max(found) == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("total", [1, 3, 100, math.inf])
def test_factors_are_finite_for_runs_of_any_length(schedule: Schedule, total: float) -> None:
    last = 50 if math.isinf(total) else int(total)
    factors = [schedule(step, total) for step in range(last + 1)]
    assert all(math.isfinite(factor) and 0.0 <= factor <= 1.0 for factor in factors)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_first_factor_does_not_depend_on_the_length(schedule: Schedule) -> None:
    assert schedule(0, 10) == schedule(0, sys.maxsize) == schedule(0, math.inf)


@pytest.mark.parametrize("milestones", [[8, 11], [0.9, 0.5], [0.0], [0.5, 0.5]])
def test_milestones_must_be_rising_fractions(milestones: list[float]) -> None:
    with pytest.raises(ValueError, match="schedule.milestones: found"):
        Step(milestones)


def test_rise_must_be_a_fraction() -> None:
    with pytest.raises(ValueError, match="schedule.rise: found 30"):
        OneCycle(rise=30)


class Rates(Callback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
        self.found.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_schedule_spans_the_optimiser_steps_of_the_run(tmp_path: Path, accumulate: int) -> None:
    rates, schedule = Rates(), Cosine(warmup_steps=2)
    settings = {"max_epochs": 3, "accumulate_grad_batches": accumulate, "limit_val_batches": 0}
    trainer(tmp_path, callbacks=[rates], **settings).fit(
        fake_lit(schedule=schedule), datamodule=FakeData()
    )
    steps = 3 * math.ceil(4 / accumulate)
    assert rates.found == pytest.approx([0.1 * schedule(step, steps) for step in range(steps)])
