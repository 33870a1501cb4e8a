"""Two processes train and evaluate as one does."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from densekit.ops import dist
from densekit.testing import run_distributed
from densekit.training import Checkpoint, Fsdp, MetricsFile, NonFinite, OutOfMemory
from densekit.training.out_of_memory import StepMemoryError
from tests.unit.training.fakes import FakeData, FakeModel, FakeSource, fake_lit, trainer

pytestmark = pytest.mark.ddp
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)
IMAGES = 8
"""Images of a global batch."""


def make_lit(heads: tuple[str, ...] = ("spot",)) -> Any:
    """Float64, without batch norm, which sees half a batch in each process."""
    torch.manual_seed(3)
    model = FakeModel(heads=heads)
    model.backbone[1] = nn.GroupNorm(2, 4)
    model.double()
    return fake_lit(model, SGD, base_batch_size=IMAGES)


def make_data(processes: int) -> FakeData:
    sources = {
        "a": FakeSource(batch_size=IMAGES // processes, count=24, eval_count=7, dtype=torch.float64)
    }
    return FakeData(sources)


def train(folder: Path, processes: int, strategy: Any = "auto") -> dict[str, Tensor]:
    """Five optimiser steps, over the border of an epoch."""
    settings = {"devices": processes, "strategy": strategy}
    run = trainer(folder, max_steps=5, limit_val_batches=0, **settings)
    lit = make_lit()
    run.fit(lit, datamodule=make_data(processes))
    return {name: dist.whole(value) for name, value in lit.state_dict().items()}


def train_rank(rank: int, folder: str) -> list[dict[str, Tensor]]:
    return [train(Path(folder), 2, strategy) for strategy in ("ddp", Fsdp())]


def train_two_heads(folder: Path, processes: int, micro: int = 1) -> dict[str, Tensor]:
    """Five steps of two heads, each with a data set of its own, of other sizes."""
    settings = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    run = trainer(folder, max_steps=5, limit_val_batches=0, **settings)
    lit = make_lit(("spot", "blob"))
    lit.micro_batches = micro
    lit.base_batch_size = None
    sources = {
        head: FakeSource((head,), batch_size=size // processes, count=count, dtype=torch.float64)
        for head, size, count in (("spot", IMAGES, 24), ("blob", IMAGES // 2, 16))
    }
    run.fit(lit, datamodule=FakeData(sources))
    return lit.state_dict()


def train_two_heads_rank(rank: int, folder: str) -> dict[str, Tensor]:
    return train_two_heads(Path(folder), 2)


def test_two_heads_with_a_data_set_each_are_those_of_one_process(tmp_path: Path) -> None:
    one = train_two_heads(tmp_path, 1)
    first, second = run_distributed(train_two_heads_rank, 2, str(tmp_path))
    start = make_lit(("spot", "blob")).state_dict()
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6)
    moved = {name for name, value in one.items() if not torch.equal(value, start[name])}
    assert {"model.heads.spot.box.weight", "model.heads.blob.box.weight"} <= moved


def train_in_parts_rank(rank: int, folder: str) -> dict[str, Tensor]:
    return train_two_heads(Path(folder), 2, micro=2)


def test_micro_batches_in_two_processes_are_the_whole_batch_of_one(tmp_path: Path) -> None:
    one = train_two_heads(tmp_path, 1)
    first, second = run_distributed(train_in_parts_rank, 2, str(tmp_path))
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6)


def run_out_rank(rank: int, folder: str) -> str:
    lit = make_lit()
    settings: dict[str, Any] = {"devices": 2, "strategy": "ddp", "callbacks": [OutOfMemory()]}
    lit._loss = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory.\nmore"))
    with pytest.raises(StepMemoryError) as caught:
        trainer(Path(folder), **settings).fit(lit, datamodule=make_data(2))
    return str(caught.value)


def test_two_processes_out_of_memory_say_what_to_set(tmp_path: Path) -> None:
    for message in run_distributed(run_out_rank, 2, str(tmp_path)):
        assert "got: CUDA out of memory.; continue with training.micro_batches=2" in message


def test_five_steps_are_those_of_one_process(tmp_path: Path) -> None:
    one = train(tmp_path, 1)
    start = make_lit().state_dict()
    for ddp, fsdp in run_distributed(train_rank, 2, str(tmp_path)):
        for name, value in one.items():
            torch.testing.assert_close(ddp[name], value, rtol=0, atol=1e-6)
            torch.testing.assert_close(fsdp[name], value, rtol=0, atol=1e-6)
    assert all(value.isfinite().all() for value in one.values())
    assert max((one[name] - start[name]).abs().max() for name in one) > 1e-2


def evaluate(folder: Path, processes: int) -> dict[str, Tensor]:
    settings = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    run = trainer(folder, callbacks=[MetricsFile(folder / "metrics.json")], **settings)
    run.validate(make_lit(), datamodule=make_data(processes), verbose=False)
    return dict(run.callback_metrics)


def evaluate_rank(rank: int, folder: str) -> dict[str, Tensor]:
    return evaluate(Path(folder), 2)


def test_figures_are_exactly_those_of_one_process(tmp_path: Path) -> None:
    one = evaluate(tmp_path / "one", 1)
    assert one["val/spot/count"] == 7
    for figures in run_distributed(evaluate_rank, 2, str(tmp_path / "two")):
        assert figures.keys() == one.keys()
        for name in ("spot/distance", "spot/count", "spot/distance/cat", "loss", "spot/loss/box"):
            found, expected = figures[f"val/{name}"], one[f"val/{name}"]
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    files = [(tmp_path / folder / "metrics.json").read_text() for folder in ("one", "two")]
    figures_of_one, figures_of_two = map(json.loads, files)
    assert figures_of_one["val/spot/distance"] == figures_of_two["val/spot/distance"]


class Terminate(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 4:
            trainer._signal_connector.received_sigterm = True


def resume_rank(rank: int, folder: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    settings: dict[str, Any] = {"devices": 2, "strategy": "ddp", "max_epochs": 3}
    straight, resumed = make_lit(), make_lit()
    trainer(Path(folder), **settings).fit(straight, datamodule=make_data(2))
    callbacks = [Checkpoint(folder), Terminate()]
    with pytest.raises(SystemExit):
        trainer(Path(folder), callbacks=callbacks, **settings).fit(
            make_lit(), datamodule=make_data(2)
        )
    trainer(Path(folder), callbacks=[Checkpoint(folder)], **settings).fit(
        resumed, datamodule=make_data(2), ckpt_path=Path(folder) / "last.ckpt", weights_only=True
    )
    return straight.state_dict(), resumed.state_dict()


def test_terminated_processes_resume_bit_equal(tmp_path: Path) -> None:
    for straight, resumed in run_distributed(resume_rank, 2, str(tmp_path)):
        assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []


class SpoilSecond(Callback):
    """Makes the loss of the second process infinite in the third step."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        if trainer.global_step == 2 and trainer.global_rank == 1:
            batch["a"]["boxes"][0] = float("inf")


def skip_rank(rank: int, folder: str) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Weights after two steps, and after a third that all processes leave out."""
    weights = []
    for steps, callbacks in ((2, []), (3, [SpoilSecond(), NonFinite(folder, skip=1)])):
        settings: dict[str, Any] = {"devices": 2, "strategy": "ddp", "max_steps": steps}
        lit = make_lit()
        trainer(Path(folder), callbacks=callbacks, limit_val_batches=0, **settings).fit(
            lit, datamodule=make_data(2)
        )
        weights.append(lit.state_dict())
    return (*weights, callbacks[-1].skipped)


def test_all_processes_skip_the_step_that_is_not_finite_in_one(tmp_path: Path) -> None:
    for before, after, skipped in run_distributed(skip_rank, 2, str(tmp_path)):
        assert skipped == 1
        assert [name for name in before if not torch.equal(before[name], after[name])] == []
