"""The parts of a model and the cost of a step, before and after the first one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densekit.training import Checkpoint, ModelSummary
from densekit.training.model_summary import Operations, cost, parts_table
from densekit.training.transfer import Part
from tests.unit.training.fakes import FakeData, fake_lit, trainer


def rows(parts: list[Part]) -> list[tuple[str, ...]]:
    columns = [
        [cell.plain for cell in column.cells]
        for column in parts_table(nn.Linear(2, 2), parts).columns
    ]
    return list(zip(*columns, strict=True))


def test_stages_that_train_alike_share_a_row() -> None:
    stages = [Part(f"backbone.{name}", 10, 10) for name in ("conv1", "layer1", "layer2")]
    heads = [Part("heads.a", 5, 5), Part("heads.b", 5, 0)]
    assert rows([*stages, Part("neck", 1, 1), *heads]) == [
        *(("backbone", "30", "all"), ("neck", "1", "all")),
        *(("heads.a", "5", "all"), ("heads.b", "5", "no"), ("model", "41", "36")),
    ]
    stages[0] = stages[0]._replace(trained=0)
    stages[2] = stages[2]._replace(start=0.5, factor=0.1)
    assert rows(stages) == [
        ("backbone.conv1", "10", "no"),
        ("backbone.layer1", "10", "all"),
        ("backbone.layer2", "10", "all, from 50% of the run on, learning rate x 0.1"),
        ("model", "30", "20"),
    ]
    frozen = [stages[0], stages[1]._replace(trained=0), stages[2]]
    assert rows(frozen)[0] == ("backbone.conv1 to layer1", "20", "no")


def test_operations_are_those_of_torch() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 2))
    image = torch.rand(2, 3, 8, 8)
    with FlopCounterMode(display=False) as torchs:
        network(image).sum().backward()
    with Operations() as own:
        network(image).sum().backward()
    assert own.total == torchs.get_total_flops() > 0


def test_a_run_says_what_trains_and_what_a_step_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "densekit")
    weights = []
    for callbacks in ([ModelSummary()], []):
        lit = fake_lit()
        callbacks = [*callbacks, Checkpoint(tmp_path / str(len(weights)))]
        run = trainer(tmp_path, callbacks=callbacks, max_epochs=1, accumulate_grad_batches=2)
        run.fit(lit, datamodule=FakeData())
        weights.append(lit.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert capsys.readouterr().out.count("heads.spot") == 1
    (line,) = [m for m in caplog.messages if m.startswith("step: ")]
    assert "GFLOP forward and backward, memory" in line


def test_cost_of_several_data_sets_and_of_compiled_code() -> None:
    batch: Any = {"a": {"image": torch.zeros(2, 3, 8, 8)}, "b": {"image": torch.zeros(1, 3, 4, 4)}}
    assert cost(batch, 2, 3_000_000, 0.5) == (
        "step: 4 x 3 x 8 x 8 of a + 2 x 3 x 4 x 4 of b, 0.006 GFLOP forward and backward,"
        " memory 0.5 GiB"
    )
    assert "FLOP" not in cost(batch, 1, 0, 0.5)
