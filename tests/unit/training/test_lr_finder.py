"""The range test raises all rates together, ends where the loss diverges and suggests a rate."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from densekit.training import LrFinder
from densekit.training.lr_finder import diverges, suggest
from densekit.training.transfer import Transfer
from tests.unit.training.fakes import FakeData, fake_lit, trainer

SGD = partial(torch.optim.SGD, lr=0.1)


class Rates(Callback):
    """The rates of all groups at each step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.seen.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("accumulated", [1, 2])
def test_rates_rise_together_and_are_those_of_the_configuration(
    tmp_path: Path, accumulated: int, caplog: pytest.LogCaptureFixture
) -> None:
    finder, rates = LrFinder(tmp_path / "lr.png", high=1.0), Rates()
    transfer = Transfer(lr_multipliers={"backbone": 0.1})
    lit = fake_lit(optimizer=SGD, transfer=transfer, base_batch_size=2)
    run = trainer(
        tmp_path,
        callbacks=[finder, rates],
        max_steps=20,
        max_epochs=-1,
        accumulate_grad_batches=accumulated,
    )
    run.fit(lit, datamodule=FakeData())
    assert len(rates.seen) == len(finder.rates) == 20
    np.testing.assert_allclose(finder.rates, np.geomspace(1e-5, 0.1, 20))
    scale = 2 * accumulated  # images per step over `base_batch_size`
    highest = [max(groups) for groups in rates.seen]
    np.testing.assert_allclose(highest, scale * np.array(finder.rates))
    np.testing.assert_allclose([min(groups) for groups in rates.seen], np.multiply(highest, 0.1))
    assert (tmp_path / "lr.png").stat().st_size > 1000
    assert "learning rate: try optimizer.lr=0.0" in caplog.text


def test_a_loss_that_diverges_ends_the_run(tmp_path: Path) -> None:
    finder = LrFinder(tmp_path / "lr.png", high=1e9)
    trainer(tmp_path, callbacks=[finder], max_steps=60, max_epochs=-1).fit(
        fake_lit(optimizer=SGD), datamodule=FakeData()
    )
    assert 10 <= len(finder.losses) < 60


def test_too_few_steps_suggest_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finder = LrFinder(tmp_path / "lr.png")
    trainer(tmp_path, callbacks=[finder], max_steps=4).fit(fake_lit(), datamodule=FakeData())
    assert "expected at least 10 steps with a finite loss, got 4" in caplog.text
    assert not (tmp_path / "lr.png").exists()


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_suggested_where_the_loss_falls_clearly(seed: int) -> None:
    rates = np.geomspace(1e-6, 1, 100)
    fall = 3 - 2 / (1 + np.exp(-3 * (np.log10(rates) + 3)))  # halfway at 1e-3
    noise = np.random.default_rng(seed).normal(0, 0.2, 100)
    loss = (fall + np.where(rates > 1e-1, 50 * rates, 0) + noise).tolist()
    found = suggest(rates.tolist(), loss)
    assert found is not None
    assert abs(math.log10(found.halfway) + 3) < 0.4
    assert 1e-3 < found.rate <= 0.02
    assert suggest(rates.tolist(), (2 + noise).tolist()) is None
    assert suggest(rates.tolist(), sorted(loss)) is None


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([1.0] * 20, False),
        ([1.0] * 10 + [20.0], True),
        ([1.0] * 10 + [9.0], False),  # one noisy batch
        ([1.0, 9.0, 9.0, 9.0], False),  # at the beginning
        ([1.0, math.nan], True),
    ],
)
def test_divergence(losses: list[float], ends: bool) -> None:
    assert diverges(losses) is ends


def test_a_range_that_does_not_rise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 0 < low < high, got low=1, high=1"):
        LrFinder(tmp_path, low=1, high=1)
