"""Norms of the gradients of a model and of its parts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.nn.utils import clip_grad_norm_

from densekit.training import GradientNorms
from densekit.training.gradient_norms import gradient_norms
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer


def test_norms_of_the_parts_and_of_all() -> None:
    lit = fake_lit(FakeModel(heads=("spot", "blob")))
    for number, parameter in enumerate(lit.parameters(), 1):
        parameter.grad = torch.full_like(parameter, float(number))
    norms = gradient_norms(lit)
    assert set(norms) == {"total", "backbone", "heads/spot", "heads/blob"}
    for name in ("backbone", "heads/spot"):
        part = lit.model.get_submodule(name.replace("/", "."))
        assert norms[name] == pytest.approx(float(clip_grad_norm_(part.parameters(), 1e9)))
    assert norms["total"] == pytest.approx(float(clip_grad_norm_(lit.parameters(), 1e9)))


def test_parts_without_gradients() -> None:
    lit = fake_lit()
    lit.model.backbone.requires_grad_(False)
    assert {name: float(norm) for name, norm in gradient_norms(lit).items()} == {
        "total": 0,
        "heads/spot": 0,
    }


def test_they_are_logged_at_the_steps_that_are(tmp_path: Path) -> None:
    log = CSVLogger(tmp_path, "csv", version="")
    settings = {"max_epochs": 2, "log_every_n_steps": 3}
    run = trainer(tmp_path, callbacks=[GradientNorms()], logger=log, **settings)
    run.fit(fake_lit(), datamodule=FakeData())
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["grad_norm/total"]]
    assert [row["step"] for row in rows] == ["2", "5"]
    assert all(float(row["grad_norm/backbone"]) <= float(row["grad_norm/total"]) for row in rows)
