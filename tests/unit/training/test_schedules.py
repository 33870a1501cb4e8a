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

from densekit.training import Constant, Cosine, MultiStep, OneCycle, Polynomial
from densekit.training.schedules import Schedule, check_end, needs_end, not_reached
from tests.unit.training.fakes import FakeData, fake_lit, trainer

ALL = [Constant(5), Cosine(5), MultiStep([0.5, 0.75], warmup_steps=5), OneCycle(), Polynomial()]


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
        (Cosine(), partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=400)),
        (
            Polynomial(0.9),
            partial(torch.optim.lr_scheduler.PolynomialLR, total_iters=400, power=0.9),
        ),
        (
            MultiStep([0.5, 0.75]),
            partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[200, 300]),
        ),
        (
            Constant(10, 0.1),
            partial(torch.optim.lr_scheduler.LinearLR, start_factor=0.1, total_iters=10),
        ),
    ],
)
def test_values_are_torchs(schedule: Schedule, reference: Any) -> None:
    found = [schedule(step, 400) for step in range(400)]
    assert found == pytest.approx(torchs(reference, 400), abs=1e-9)


def test_polynomial_ends_at_its_final_factor_after_a_warm_up() -> None:
    # mmengine's PolyLR: eta_min + (lr - eta_min) * (1 - t) ** power.
    schedule = Polynomial(0.9, final_factor=0.01)
    assert schedule(300, 400) == pytest.approx(0.01 + 0.99 * 0.25**0.9)
    assert schedule(400, 400) == schedule(500, 400) == 0.01
    assert Polynomial(1, warmup_steps=20)(20, 400) == 1.0
    with pytest.raises(ValueError, match="schedule.power: expected a positive number, got 0"):
        Polynomial(0)


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
    with pytest.raises(ValueError, match="schedule.milestones: expected increasing fractions"):
        MultiStep(milestones)


def test_rise_must_be_a_fraction() -> None:
    with pytest.raises(ValueError, match="schedule.rise: expected .*, got 30"):
        OneCycle(rise=30)


@pytest.mark.parametrize(
    "schedule",
    [Constant(500), Cosine(500), MultiStep([0.5], warmup_steps=500)],
    ids=lambda s: type(s),
)
@pytest.mark.parametrize("total", [1, 12, 390, 4999, 5000, 50_000])
def test_warm_up_is_at_most_a_tenth_of_the_run(schedule: Schedule, total: int) -> None:
    rates = [schedule(step, total) for step in range(total)]
    peak = min(500, -(-total // 10))
    if peak < total:
        assert rates[peak] == pytest.approx(1.0, abs=0.02)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[0] == 1e-3


def thirds(step: int, total_steps: float) -> float:
    """A schedule as a plug-in writes it."""
    return 1.0 if step < total_steps / 3 else 0.1


def by_steps(step: int, total_steps: float) -> float:
    return 0.5 ** (step // 100)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), False),
        (Constant(500), False),
        (by_steps, False),
        (Cosine(), True),
        (Cosine(500), True),
        (OneCycle(), True),
        (Polynomial(), True),
        (MultiStep([0.9]), True),
        (thirds, True),
    ],
)
def test_what_needs_the_end_of_the_run(schedule: Schedule, expected: bool) -> None:
    assert needs_end(schedule) is expected


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


@pytest.mark.parametrize("limit", [{"max_epochs": -1}, {"max_epochs": None}])
@pytest.mark.parametrize("schedule", [Constant(), Constant(3), by_steps])
def test_a_run_without_an_end_learns(
    tmp_path: Path, limit: dict[str, Any], schedule: Schedule
) -> None:
    class Enough(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= 6

    rates = Rates()
    settings = {**limit, "max_time": "00:01:00:00", "limit_val_batches": 0}
    run = trainer(tmp_path, callbacks=[rates, Enough()], **settings)
    run.fit(fake_lit(schedule=schedule), datamodule=FakeData())
    count = len(rates.found)
    assert count >= 6
    assert rates.found == pytest.approx([0.1 * schedule(step, math.inf) for step in range(count)])


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle(), MultiStep([0.5]), thirds])
def test_a_schedule_that_needs_the_end_is_refused_without_one(
    tmp_path: Path, schedule: Schedule
) -> None:
    run = trainer(tmp_path, max_epochs=-1, max_time="00:00:01:00")
    with pytest.raises(ValueError, match=r"^schedule: .*trainer.max_epochs or trainer.max_steps"):
        run.fit(fake_lit(schedule=schedule), datamodule=FakeData())
    steps = trainer(tmp_path, max_epochs=-1, max_steps=3, limit_val_batches=0)
    steps.fit(fake_lit(schedule=schedule), datamodule=FakeData())
    assert steps.global_step == 3


def test_parts_that_start_later_need_the_end() -> None:
    with pytest.raises(ValueError, match="^transfer: for parts that start later, expected"):
        check_end(Constant(), [0.0, 0.5])
    check_end(Constant(), [0.0])


@pytest.mark.parametrize(
    ("schedule", "total", "said"),
    [
        (Constant(500), math.inf, "0.0"),
        (OneCycle(), 4000, "0.04"),
        (Cosine(), 40, ""),
        (Cosine(500), 40, ""),
    ],
)
def test_a_run_that_never_reached_its_rate_says_so(
    schedule: Schedule, total: float, said: str
) -> None:
    line = not_reached(schedule, 10, total)
    expected = f"schedule: the learning rate reached only {said}" if said else ""
    assert (line or "").startswith(expected)
    assert bool(line) == bool(said)
    assert not_reached(schedule, 0, total) is None


def test_one_step_is_not_1_steps() -> None:
    assert "ended after 1 step;" in (not_reached(Cosine(500), 1, 40) or "")
