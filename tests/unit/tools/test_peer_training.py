"""The loop that trains the peers of our tables."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from densekit.training import Constant

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "benchmarks"))
from peer_training import Job, train  # type: ignore[import-not-found] # noqa: E402


class Source:
    """Counts its loaders: each begins at the draws of the first epoch."""

    def __init__(self) -> None:
        self.loaders = 0

    def train_loader(self) -> list[torch.Tensor]:
        self.loaders += 1
        return [torch.ones(2, 1)] * 3


def test_every_epoch_has_draws_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    source, model, seen = Source(), nn.Linear(1, 1), []

    def step(batch: Any) -> torch.Tensor:
        seen.append(batch)
        loss: torch.Tensor = model(batch).square().mean()
        return loss

    optimizer = partial(torch.optim.SGD, lr=0.1, weight_decay=0.0)
    train(Job(source, model, {}, None, optimizer, Constant(), False, None, 7), model, step)
    assert len(seen) == 7
    assert source.loaders == 1
    assert "7 steps" in capsys.readouterr().out
