"""The end of a training: whose figures a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from densekit.app.config.data_info import model_info
from densekit.app.config.overrides import parse
from densekit.app.run import fit
from densekit.app.run.fit import _evaluate_best
from densekit.app.run.job import _limit, checked, configuration
from densekit.build import build_model, instantiate
from densekit.inference import CleanUp, SlidingWindow
from densekit.training import Checkpoint, MetricsFile
from tests.unit.training.fakes import FakeData, fake_lit, trainer


@pytest.mark.parametrize(
    ("settings", "step", "epoch", "limit"),
    [
        ({"max_steps": 6, "max_epochs": 12}, 6, 0, "max_steps"),
        ({"max_steps": 6}, 6, 0, "max_steps"),
        ({"max_steps": -1, "max_epochs": 2}, 6, 1, "max_epochs"),
        ({"max_steps": 9, "max_epochs": 2}, 6, 1, "max_epochs"),
        ({"max_epochs": 12, "max_time": "00:00:10:00"}, 6, 1, "max_time"),
        ({"max_epochs": -1, "max_time": {"minutes": 10}}, 6, 1, "max_time"),
        ({"max_epochs": 2, "max_time": "00:00:10:00"}, 6, 1, "max_epochs"),
        ({"max_epochs": 12}, 6, 1, "max_epochs"),
    ],
)
def test_the_limit_that_ended_the_run_is_to_be_raised(
    tmp_path: Path, settings: dict[str, Any], step: int, epoch: int, limit: str
) -> None:
    torch.save({"global_step": step, "epoch": epoch}, tmp_path / "last.ckpt")
    cfg = {"trainer": settings, "callbacks": {}}
    assert _limit(cfg, tmp_path / "last.ckpt") == f"trainer.{limit}"


def test_a_run_that_stopped_early_needs_more_patience(tmp_path: Path) -> None:
    torch.save({"global_step": 6, "epoch": 1}, tmp_path / "last.ckpt")
    callbacks = {"curves": None, "stop": {"_target_": "densekit.training.EarlyStopping"}}
    cfg = {"trainer": {"max_epochs": 12}, "callbacks": callbacks}
    assert _limit(cfg, tmp_path / "last.ckpt") == "callbacks.stop.patience"


class Seen(Callback):
    """Figures after each validation, and how many there were."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.figures.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def trained(folder: Path, monitor: str, mode: str) -> tuple[L.Trainer, Any, Any, Seen]:
    seen, lit, data = Seen(), fake_lit(), FakeData()
    for source in data.sources.values():
        source.val = source.test = source.eval  # type: ignore[attr-defined]
    callbacks = [Checkpoint(folder, monitor, mode), MetricsFile(folder / "metrics.json"), seen]
    run = trainer(folder, callbacks=callbacks, max_epochs=3)
    run.fit(lit, datamodule=data)
    return run, lit, data, seen


def test_equal_scores_leave_the_figures_of_the_best_checkpoint(tmp_path: Path) -> None:
    run, lit, data, seen = trained(tmp_path, "val/spot/count", "max")  # the same in every epoch
    _evaluate_best(run, lit, data, test=False)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    first, last = seen.figures[0]["val/spot/distance"], seen.figures[2]["val/spot/distance"]
    assert first != last
    assert [file.name for file in tmp_path.glob("epoch_*.ckpt")] == ["epoch_000.ckpt"]
    assert figures["val/spot/distance"] == pytest.approx(first)
    assert (figures["epoch"], figures["step"]) == (0, 4)


def test_the_last_checkpoint_is_not_measured_twice(tmp_path: Path) -> None:
    run, lit, data, seen = trained(tmp_path, "val/spot/distance", "min")
    assert (tmp_path / "epoch_002.ckpt").is_file()
    _evaluate_best(run, lit, data, test=True)
    assert len(seen.figures) == 3
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["val/spot/distance"] == seen.figures[2]["val/spot/distance"]
    assert figures["test/spot/distance"] == pytest.approx(figures["val/spot/distance"])
    assert (figures["epoch"], figures["step"]) == (2, 12)


@pytest.mark.parametrize(("wrong", "precision"), [(None, "bf16-mixed"), ("conv2d is", "32-true")])
def test_auto_precision_is_tried_at_the_size_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str | None, precision: str
) -> None:
    tried: list[Any] = []

    def answer(calls: Any, *_: Any, backward: bool) -> str | None:
        tried.extend(calls)
        assert backward
        return wrong

    monkeypatch.setattr("densekit.training.devices.cpu_gains_from_bf16", lambda: True)
    monkeypatch.setattr("densekit.training.devices.first_wrong", answer)
    job = checked(
        configuration(
            parse(
                [
                    "experiment=quickstart_classification",
                    "data.scenes.train.length=8",
                    "data.scenes.train.size=[64,96]",
                    "data.scenes.test=null",
                    "data.scenes.val.length=8",
                    "backbone.width=4",
                    "trainer.accelerator=cpu",
                ]
            )
        )
    ).cfg
    data = fit._data(job, None)
    model = build_model(job, model_info(data.sources, job["heads"], None))
    lit = fit._module(job, model, instantiate(job["optimizer"], "optimizer"))
    trainer = fit._trainer(job["trainer"], lit, data, logger=False, enable_checkpointing=False)
    assert trainer.precision == precision
    assert {call.function for call in tried} == {"conv2d", "linear"}
    assert {tuple(sorted(call.image[2:])) for call in tried} == {(), (4, 6), (8, 8)}


class Sized:
    """A data set whose images are of one size."""

    def __init__(self, sides: tuple[int, ...], train: object) -> None:
        self.sides, self.train = sides, train

    def image_size(self) -> tuple[int, ...]:
        return self.sides


@pytest.mark.parametrize(
    ("sides", "dims", "train", "settings", "expected"),
    [
        ((40, 60), 2, True, {"rule": {"min_size": 20}}, (40, 60)),  # the transforms have resized
        ((40, 60), 2, None, {"rule": {"min_size": 20}}, (20, 30)),
        ((90, 80, 70), 3, None, {"window": (32, 96, 32)}, (32, 80, 32)),
        ((90, 80, 70), 2, None, {}, (80, 70)),
    ],
)
def test_sizes_are_those_the_network_sees(
    sides: tuple[int, ...], dims: int, train: object, settings: dict[str, Any], expected: object
) -> None:
    window = settings.get("window")
    inner = SlidingWindow(window) if window else None  # it may stand within something else
    model = SimpleNamespace(spatial_dims=dims, info={"resize": settings.get("rule")})
    lit: Any = SimpleNamespace(model=model, inferer=CleanUp(inner))
    data: Any = SimpleNamespace(sources={"a": Sized(sides, train)})
    assert [tuple(found) for found in fit._sizes(lit, data)] == [expected]
