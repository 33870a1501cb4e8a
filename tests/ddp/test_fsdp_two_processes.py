"""Weights divided over two processes train as those of one process, and as two copies do."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from densekit.artifact import load_artifact, read_checkpoint
from densekit.ops import dist
from densekit.testing import run_distributed
from densekit.training import Checkpoint, Ema, Stopping
from tests.ddp.fsdp_runs import data_of, detector, lit_of, run_of, segmenter, whole

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

STOP = 3
"""Step after which a run is stopped."""
EXACT = {"rtol": 0.0, "atol": 1e-12}
"""Rounding of float64."""
TASKS = ("detection", "segmentation")


def held(lit: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of parameters and of the optimiser's state that this process holds."""
    states = [value for state in optimizer.state.values() for value in state.values()]
    parts = [dist.own_part(t) for t in (*lit.parameters(), *states) if isinstance(t, Tensor)]
    return sum(part.untyped_storage().nbytes() for part in parts)


def train(folder: Path, task: str, strategy: str, resume: Path | None = None) -> dict[str, Any]:
    """Trains with clipping, accumulation and averaged weights, and validates after every epoch."""
    lit = lit_of(detector if task == "detection" else segmenter)
    run = run_of(folder, strategy, callbacks=[Ema(0.9), Checkpoint(folder)])
    run.fit(lit, datamodule=data_of(task), ckpt_path=resume, weights_only=True)
    numbers = {name: float(value) for name, value in run.callback_metrics.items()}
    kept = {name: value for name, value in numbers.items() if name.startswith("val/")}
    return {"state": whole(lit), "metrics": kept, "held": held(lit, run.optimizers[0])}


class Terminate(Callback):
    """The last process receives SIGTERM in the middle of an accumulation."""

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping

    def on_train_batch_start(self, run: Any, *_: Any) -> None:
        if run.global_step == STOP - 1 and dist.rank() == dist.world_size() - 1:
            self.stopping.signal = signal.SIGTERM


def train_until_stopped(folder: Path, strategy: str) -> None:
    stopping = Stopping()
    callbacks = [Ema(0.9), stopping, Terminate(stopping), Checkpoint(folder)]
    with pytest.raises(SystemExit):
        run_of(folder, strategy, callbacks=callbacks).fit(
            lit_of(segmenter), datamodule=data_of("segmentation")
        )


class Layout(Callback):
    """Notes whether the maps of a backbone are stored channels last, as its weights were."""

    def __init__(self) -> None:
        self.found: set[bool] = set()

    def on_train_start(self, run: Any, lit: Any) -> None:
        stage = lit.model.backbone.layer1
        stage.register_forward_hook(lambda *args: self.found.add(is_channels_last(args[-1])))


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def layout_of(folder: Path) -> set[bool]:
    noting = Layout()
    run = run_of(folder, "fsdp", callbacks=[noting], limit_val_batches=0, max_steps=1)
    run.fit(lit_of(segmenter), datamodule=data_of("segmentation"))
    return noting.found


def in_two_processes(rank: int, folder: Path) -> dict[str, Any]:
    found = {task: train(folder / task, task, "fsdp") for task in TASKS}
    task = "segmentation"
    found["layout"] = layout_of(folder)
    found["ddp"] = train(folder / "ddp", task, "ddp")
    train_until_stopped(folder / "stopped", "fsdp")
    found["resumed"] = train(folder / "resumed", task, "fsdp", folder / "stopped" / "last.ckpt")
    found["taken over"] = train(folder / "taken", task, "fsdp", folder / "one" / "last.ckpt")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fsdp")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """Runs of one process."""
    train_until_stopped(folder / "one", "auto")
    return {task: train(folder / "alone" / task, task, "auto") for task in TASKS}


@pytest.fixture(scope="module")
def ranks(folder: Path, alone: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs of two processes, of which some continue one of a single process."""
    return run_distributed(in_two_processes, 2, folder)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **EXACT)


@pytest.mark.parametrize("task", TASKS)
def test_weights_and_metrics_are_those_of_one_process(
    task: str, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    start = lit_of(detector if task == "detection" else segmenter).state_dict()
    for found in ranks:
        assert_close(found[task]["state"], alone[task]["state"])
        assert found[task]["metrics"].keys() == alone[task]["metrics"].keys()
        assert found[task]["metrics"] == pytest.approx(
            alone[task]["metrics"], rel=0, abs=1e-6, nan_ok=True
        )
    assert max(float((start[n] - v).abs().max()) for n, v in found[task]["state"].items()) > 1e-3


def test_weights_are_those_of_ddp(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert_close(found["segmentation"]["state"], found["ddp"]["state"])


def test_a_process_holds_half_of_weights_and_optimiser(ranks: list[dict[str, Any]]) -> None:
    full = ranks[0]["ddp"]["held"]
    for found in ranks:
        assert found["segmentation"]["held"] < 0.51 * full


def test_maps_stay_channels_last(ranks: list[dict[str, Any]]) -> None:
    assert [found["layout"] for found in ranks] == [{True}, {True}]


def test_a_terminated_run_resumes_bit_equal(folder: Path, ranks: list[dict[str, Any]]) -> None:
    assert read_checkpoint(folder / "stopped" / "last.ckpt")["global_step"] == STOP
    for found in ranks:
        straight, resumed = found["segmentation"], found["resumed"]
        assert [
            n for n, v in straight["state"].items() if not torch.equal(v, resumed["state"][n])
        ] == []
        assert straight["metrics"] == resumed["metrics"]


def test_runs_continue_with_one_process_and_back(
    folder: Path, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    back = train(folder / "back", "segmentation", "auto", folder / "stopped" / "last.ckpt")
    assert_close(back["state"], alone["segmentation"]["state"])
    assert_close(ranks[0]["taken over"]["state"], alone["segmentation"]["state"])


def test_a_checkpoint_is_one_whole_file(
    folder: Path, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    divided, one = (
        read_checkpoint(folder / part / "segmentation" / "last.ckpt") for part in ("", "alone")
    )
    assert divided.keys() == one.keys()
    for key in ("state_dict", "current_model_state"):
        assert_close(divided[key], one[key])
    for first, second in zip(divided["optimizer_states"], one["optimizer_states"], strict=True):
        for index, state in second["state"].items():
            torch.testing.assert_close(first["state"][index], state, **EXACT)
    assert_close(
        load_artifact(folder / "segmentation" / "last.ckpt")["state_dict"],
        {name.removeprefix("model."): value for name, value in one["state_dict"].items()},
    )
