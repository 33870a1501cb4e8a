"""Table, metrics file, curves and pictures of a run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from densekit.evaluation import read_evaluation
from densekit.metrics import CocoMap
from densekit.training import (
    Checkpoint,
    Curves,
    Ema,
    EvaluationFile,
    Intervals,
    MetricsFile,
    MetricsTable,
    RunPictures,
    end_run,
    run_pictures,
)
from densekit.training.metrics_file import json_metrics
from densekit.training.metrics_table import Best, better, table_with_changes
from densekit.visualization.curves import Series
from tests.unit.training.fakes import FakeData, FakeModel, FakeSource, fake_lit, trainer


def test_metrics_file_is_flat_and_has_null_for_nan(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.json"
    run, lit = trainer(tmp_path, callbacks=[MetricsFile(path)], max_epochs=2), fake_lit()
    run.fit(lit, datamodule=FakeData())
    run.test(lit, datamodule=FakeData(), verbose=False)
    figures = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert figures["val/spot/count"] == figures["test/spot/count"] == 5.0
    assert figures["val/spot/distance/cat"] is None
    assert figures["step"] == 8
    assert [name for name, value in figures.items() if isinstance(value, dict | list)] == []
    assert not any(name.startswith("train/") for name in figures)


def test_a_resumed_run_counts_its_own_steps(tmp_path: Path) -> None:
    for epochs, start in ((1, None), (2, tmp_path / "last.ckpt")):
        callbacks = [MetricsFile(tmp_path / "metrics.json"), Checkpoint(tmp_path)]
        run = trainer(tmp_path, callbacks=callbacks, max_epochs=epochs)
        run.fit(fake_lit(), datamodule=FakeData(), ckpt_path=start, weights_only=True)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert (figures["epoch"], figures["step"]) == (1, 8)


def test_infinite_figures_are_null_too() -> None:
    logged = {"val/a": torch.tensor(float("inf")), "train/b": torch.tensor(1.0)}
    assert json_metrics(logged) == {"val/a": None}


def test_sanity_check_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    callbacks = [
        *(Intervals(), MetricsFile(path), MetricsTable(), Curves(tmp_path / "c.png")),
        EvaluationFile(tmp_path),
    ]
    settings = {"num_sanity_val_steps": 2, "max_epochs": 1, "limit_train_batches": 1}
    run = trainer(tmp_path, callbacks=callbacks, **settings, check_val_every_n_epoch=2)
    run.fit(fake_lit(), datamodule=FakeData())
    assert json.loads(path.read_text()) == {"stopped": "trainer.max_epochs=1 is reached"}
    assert not (tmp_path / "evaluation_val.npz").exists()


def test_intervals_and_rows_of_the_last_validation_and_the_test(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    callbacks = [Intervals(50), MetricsFile(path), EvaluationFile(tmp_path)]
    lit = fake_lit(metrics={"spot": {"coco": CocoMap(["cat", "dog"])}})
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=2)
    run.fit(lit, datamodule=FakeData())
    run.test(lit, datamodule=FakeData(), verbose=False)
    found = json.loads(path.read_text())
    for stage in ("val", "test"):
        low, high = found["intervals"][f"{stage}/spot/AP"]
        assert low <= found[f"{stage}/spot/AP"] <= high
        (one,) = read_evaluation(tmp_path / f"evaluation_{stage}.npz").measured
        assert one.values["spot/AP"] == found[f"{stage}/spot/AP"]


def test_table_per_validation_then_one_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callbacks = [MetricsTable(), Checkpoint(tmp_path, "val/spot/count")]
    run, lit = trainer(tmp_path, callbacks=callbacks, max_epochs=2), fake_lit()
    run.fit(lit, datamodule=FakeData())
    run.test(lit, datamodule=FakeData(), verbose=False)
    first, second = capsys.readouterr().out.split("Validation after epoch ")[1:]
    assert first.startswith("0")
    assert first.index("spot/count") < first.index("loss")  # what is watched comes first
    assert "spot/distance/cat" not in first
    assert "change" not in first
    assert "change" in second
    assert "(epoch 1)" in next(line for line in second.splitlines() if " loss " in line)
    end_run(run, lit)
    last = capsys.readouterr().out
    assert "Results" in last
    assert re.search(r"metric +┃ +val ┃ +test ┃", last)
    assert re.search(r"spot/distance/cat │ +- │ +- │", last)


def test_best_values_go_on_when_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for epochs, start in ((2, None), (3, tmp_path / "last.ckpt")):
        run = trainer(tmp_path, callbacks=[MetricsTable(), Checkpoint(tmp_path)], max_epochs=epochs)
        run.fit(fake_lit(), datamodule=FakeData(), ckpt_path=start, weights_only=True)
    assert "change" in capsys.readouterr().out.split("Validation after epoch 2")[1]


def test_best_is_the_first_of_equals_and_never_nan() -> None:
    before = {"up": Best(0.5, "epoch 0"), "down": Best(0.5, "epoch 0")}
    modes = {"up": "max", "down": "min", "new": "max", "nan": "min"}
    metrics = {"up": 0.5, "down": 0.4, "new": 0.1, "nan": float("nan")}
    found = better(metrics, modes, before, "epoch 1")
    assert found == {"down": Best(0.4, "epoch 1"), "new": Best(0.1, "epoch 1")}


def test_curves_are_drawn_and_go_on_when_resumed(tmp_path: Path) -> None:
    def fit(epochs: int, ckpt_path: Path | None = None) -> Series:
        curves = Curves(tmp_path / "curves.png")
        callbacks = [curves, Checkpoint(tmp_path)]
        run = trainer(tmp_path, callbacks=callbacks, max_epochs=epochs, log_every_n_steps=2)
        run.fit(fake_lit(), datamodule=FakeData(), ckpt_path=ckpt_path, weights_only=True)
        return curves.series

    fit(1)
    series = fit(2, tmp_path / "last.ckpt")
    assert [step for step, _ in series["train/loss"]] == [2, 4, 6, 8]
    assert [step for step, _ in series["val/spot/distance"]] == [4, 8]
    assert series["lr"][-1] == (8, pytest.approx(0.1))
    assert "val/spot/distance/cat" not in series
    assert Image.open(tmp_path / "curves.png").size[0] > 800


def test_curves_average_the_steps_between_two_points(tmp_path: Path) -> None:
    fine, coarse = Curves(tmp_path / "a.png"), Curves(tmp_path / "b.png")
    for curves, every in ((fine, 1), (coarse, 4)):
        run = trainer(tmp_path, callbacks=[curves], max_epochs=1, log_every_n_steps=every)
        run.fit(fake_lit(), datamodule=FakeData())
    mean = np.mean([value for _, value in fine.series["train/loss"]])
    assert coarse.series["train/loss"] == [(4, pytest.approx(mean))]


@pytest.mark.parametrize(("validated", "drawings"), [(1, 2), (0, 1)])
def test_curves_are_drawn_where_there_is_a_new_point(
    validated: int, drawings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("densekit.training.curves.draw_curves", lambda *_: drawn.append(1))
    curves = Curves(tmp_path / "curves.png")
    run = trainer(tmp_path, callbacks=[curves], max_epochs=2, limit_val_batches=validated)
    run.fit(fake_lit(), datamodule=FakeData())
    assert len(drawn) == drawings


def test_main_figures_of_several_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FakeData({"a": FakeSource(), "b": FakeSource()})
    curves = Curves(tmp_path / "curves.png")
    run = trainer(tmp_path, callbacks=[MetricsTable(), curves], max_epochs=1)
    run.fit(fake_lit(), datamodule=data)
    first = capsys.readouterr().out
    for name in ("a/spot/distance", "b/spot/distance", "b/loss"):
        assert f"{name} " in first
        assert f"val/{name}" in curves.series
    assert "distance/cat" not in first


def test_pictures_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"a": FakeSource(("spot",)), "b": FakeSource(("blob",))}
    lit = fake_lit(FakeModel(heads=("spot", "blob")))
    titles: list[str] = []
    monkeypatch.setattr(
        run_pictures, "with_title", lambda picture, title: (titles.append(title), picture)[1]
    )
    log = TensorBoardLogger(tmp_path, "tensorboard", version="")
    callbacks = [RunPictures(tmp_path, images=2)]
    run = trainer(tmp_path, callbacks=callbacks, logger=log, max_epochs=1)
    run.fit(lit, datamodule=FakeData(sources))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["loader.png", "predictions.png"]
    assert titles == 2 * ["image_0.png", "image_4.png"]  # the metric measures no image by itself
    events = EventAccumulator(log.log_dir).Reload()
    assert [image.step for image in events.Images("val/predictions")] == [4]


def test_pictures_show_the_worst_and_the_best_with_the_weights_that_were_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit = fake_lit(metrics={"spot": {"coco": CocoMap(["cat", "dog"])}})
    evaluated: dict[int, Any] = {}
    drawn: dict[str, Any] = {}

    class Keep(Callback):
        def on_validation_batch_end(
            self, run: Any, lit: Any, outputs: Any, batch: Any, *_: Any
        ) -> None:
            for truth, result in zip(batch["truth"], outputs["results"], strict=True):
                evaluated[truth["image_id"]] = result["spot"]["boxes"]

    def draw(batch: Any, row: int, result: Any, *_: Any) -> list[Any]:
        image = batch["truth"][row]["image_id"]
        assert np.allclose(result["spot"]["boxes"], evaluated[image], atol=1e-4)
        return [np.zeros((8, 8, 3), np.uint8)]

    monkeypatch.setattr(run_pictures, "draw_result", draw)
    monkeypatch.setattr(
        run_pictures, "with_title", lambda picture, title: (drawn.setdefault(title), picture)[1]
    )
    callbacks = [RunPictures(tmp_path, images=3, min_score=0), Keep(), Ema(0.9)]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=1)
    run.fit(lit, datamodule=FakeData())
    assert [title.partition(":")[0] for title in drawn] == ["worst", "median", "best"]
    assert all(": F1 " in title for title in drawn)


@pytest.mark.parametrize(
    ("min_score", "facts", "kept"),
    [
        (None, {"best_thresholds": {"overall": 0.4, "classes": {"dog": 0.7}}}, [0.45]),
        (None, {}, [0.6]),
        (0.3, {"best_thresholds": {"overall": 0.4, "classes": {"dog": 0.7}}}, [0.45, 0.6, 0.3]),
    ],
)
def test_boxes_are_drawn_by_the_threshold_that_the_values_are_measured_with(
    min_score: float | None, facts: Any, kept: list[float], tmp_path: Path
) -> None:
    scores = np.array([0.45, 0.6, 0.3])
    result: Any = {"boxes": np.ones((3, 4)), "scores": scores, "labels": np.array([0, 1, 0])}
    metrics = SimpleNamespace(facts=lambda head: facts)
    info = {"heads": {"found": {"names": ["cat", "dog"]}}}
    lit = SimpleNamespace(
        model=SimpleNamespace(info=info), metric_sets=lambda stage: {"scenes": metrics}
    )
    callback = RunPictures(tmp_path, min_score=min_score)
    shown = callback._confident(lit, "val", "scenes", "found", result)
    assert shown["scores"].tolist() == kept
    assert shown["boxes"].shape == (len(kept), 4)


def test_masks_and_boxes_of_one_data_set_have_their_own_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {
        "detection": {"names": ["cat", "dog"]},
        "segmentation": {"names": ["background", "cat", "dog"], "background": True},
    }
    heads = {
        "detection": SimpleNamespace(target_keys=("boxes", "labels")),
        "segmentation": SimpleNamespace(target_keys=("mask",)),
    }
    lit: Any = SimpleNamespace(model=SimpleNamespace(info={"heads": known}, heads=heads))
    monkeypatch.setattr(run_pictures, "source_heads", lambda *_: tuple(heads))
    run: Any = None
    assert run_pictures.class_names(run, lit, "scenes") == ["cat", "dog"]
    assert run_pictures.mask_classes(run, lit, "scenes") == {1: "cat", 2: "dog"}


def test_names_are_text_in_the_table_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["AP/[old]", "AP/[/x]", "AP/[bold]a[/bold]", "AP/:cat:", "AP/a\\"]
    Console(file=sys.stdout, width=80).print(
        table_with_changes("[red]", dict.fromkeys(names, 0.5), {}, {})
    )
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("[red]", *names))
