"""What a run is judged by: found out, or refused, before the first step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchmetrics import MeanMetric, Metric

from densekit.app.cli import main
from densekit.app.config.monitor import check_direction, objective_name, settled
from densekit.app.errors import UsageError
from densekit.app.run.fit import _loggable
from densekit.metrics import CocoMap, DiceScore, SurfaceDistances, VocMap
from densekit.training.monitors import Logged, Main, logged_names
from tests.unit.app.run.test_earlier_logs import TINY, only

NAMES = {"names": ["background", "cat"], "background": True, "num_classes": 2}


class Judged:
    """As much of a head as is asked here."""

    def __init__(self, metrics: dict[str, Metric], main: tuple[str, str] | None) -> None:
        self.metrics, self.main_metric = metrics, main
        self.target_keys = ("boxes",)

    def make_metrics(self, info: Any) -> dict[str, Metric]:
        return self.metrics


class Late(MeanMetric):
    """Knows its names only when it has seen something."""

    def compute(self) -> Any:
        raise RuntimeError("nothing yet")


def detector(main: tuple[str, str] | None = ("AP", "max")) -> Judged:
    return Judged({"coco": CocoMap(["cat"])}, main)


def asked(heads: dict[str, Judged], recipes: Any = None, **more: Any) -> Logged:
    dims, whole = more.pop("dims", 2), more.pop("whole", True)
    info = {"heads": dict.fromkeys(heads, NAMES)}
    described: Any = {"info": info, "described": info["heads"], "combined": {}}
    model: Any = SimpleNamespace(heads=heads, spatial_dims=dims, **described)
    data = SimpleNamespace(describe=lambda: {"spatial_dims": 2})
    source = SimpleNamespace(heads=tuple(heads), val=data, test=None)
    sources = more.pop("sources", {"a": source})
    inferer = SimpleNamespace(whole_image=whole)
    return logged_names("val", model, sources, recipes or {}, inferer)


def test_a_head_names_what_it_is_judged_by() -> None:
    assert asked({"detection": detector()}).main == ("val/detection/AP", "max")
    assert asked({"detection": detector(("AP50", "max"))}).main == ("val/detection/AP50", "max")
    assert asked({"detection": detector(None)}).main == ("val/loss", "min")
    assert asked({"x": detector(None), "y": detector()}).main == ("val/y/AP", "max")
    assert asked({"x": detector(("AP75", "max")), "y": detector()}).main == ("val/x/AP75", "max")
    assert asked({"x": Judged({"own": Late()}, ("own", "min"))}).main == ("val/x/own", "min")


@pytest.mark.parametrize(
    ("recipes", "main"),
    [
        ({"voc": partial(VocMap)}, ("val/x/VOC07_AP50", "max")),
        ({"voc": partial(VocMap), "coco": partial(CocoMap)}, ("val/x/AP", "max")),
        (
            {"surfaces": partial(SurfaceDistances), "dice": partial(DiceScore)},
            ("val/x/dice", "max"),
        ),
        ({"surfaces": partial(SurfaceDistances)}, ("val/loss", "min")),  # no one direction
    ],
)
def test_other_metrics_bring_another_main_one(recipes: Any, main: tuple[str, str]) -> None:
    assert asked({"x": detector()}, {"x": recipes}).main == main


def test_without_a_loss_and_a_metric_there_is_no_main_one() -> None:
    assert asked({"x": detector(None)}, whole=False).main is None
    assert asked({"x": detector(None)}, dims=3).main is None
    assert asked({"x": detector()}, sources={}) == ({}, [], None)
    stranger = detector(None)
    stranger.target_keys = ("identity",)
    assert asked({"x": stranger}).main is None
    assert asked({"x": stranger, "y": detector(None)}).open == ["val/y/loss/"]


def test_of_several_data_sets_the_first_that_has_the_head_counts() -> None:
    data = SimpleNamespace(describe=dict)
    sources = {
        "a": SimpleNamespace(heads=("y",), val=data, test=None),
        "b": SimpleNamespace(heads=("x",), val=None, test=data),
        "c": SimpleNamespace(heads=("x", "y"), val=data, test=None),
    }
    logged = asked({"x": detector(), "y": detector()}, sources=sources)
    assert logged.main == ("val/c/x/AP", "max")
    assert logged.may_hold("val/a/y/AP")
    assert logged.may_hold("val/a/loss")
    assert not logged.may_hold("val/b/x/AP")
    assert logged.mode("val/a/y/loss/anything") == "min"


LOGGED = Logged(
    {"val/x/AP": "max", "val/x/AP50": None, "val/x/AP/cat": None, "val/loss": "min"},
    ["val/x/loss/", "val/late/"],
    Main("val/x/AP", "max"),
)
CHECKPOINT = {"_target_": "densekit.training.Checkpoint", "folder": "x"}
STOPPING = {"_target_": "densekit.training.EarlyStopping", "patience": 3}


@pytest.mark.parametrize(
    ("node", "monitor", "mode"),
    [
        ({**CHECKPOINT, "monitor": "main"}, "val/x/AP", "max"),
        ({**STOPPING, "monitor": "main", "mode": "max"}, "val/x/AP", "max"),
        ({**CHECKPOINT, "monitor": "val/loss"}, "val/loss", "min"),
        ({**CHECKPOINT, "monitor": "val/x/loss/box"}, "val/x/loss/box", "min"),
        ({**CHECKPOINT, "monitor": "val/x/AP50", "mode": "max"}, "val/x/AP50", "max"),
        ({**CHECKPOINT, "monitor": "val/x/AP/cat", "mode": "max"}, "val/x/AP/cat", "max"),
        ({**CHECKPOINT, "monitor": "val/late/any", "mode": "min"}, "val/late/any", "min"),
        ({**CHECKPOINT, "monitor": "train/loss"}, "train/loss", "min"),
    ],
)
def test_what_is_watched_is_named_with_its_direction(node: Any, monitor: str, mode: str) -> None:
    found = settled({"a": node, "off": None, "other": {"_target_": "x.Y"}}, LOGGED, trust=[])
    assert found["a"] is not None
    assert (found["a"]["monitor"], found["a"]["mode"]) == (monitor, mode)
    assert found["off"] is None


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {**CHECKPOINT, "monitor": "val/x/AP_50"},
            "monitor: expected one of .*did you mean 'val/x/AP50'",
        ),
        ({**CHECKPOINT, "monitor": "val/x/AP/dog"}, "monitor: expected one of main"),
        ({**STOPPING, "monitor": None}, "monitor: expected one of main, .* got 'null'"),
        (
            {**CHECKPOINT, "monitor": "val/x/AP50"},
            "mode: expected max or min of val/x/AP50, got None",
        ),
        ({**CHECKPOINT, "monitor": "main", "mode": "best"}, "mode: expected max or min"),
    ],
)
def test_what_is_not_measured_is_refused(node: Any, message: str) -> None:
    with pytest.raises(UsageError, match=rf"callbacks\.a\.{message}"):
        settled({"a": node}, LOGGED, trust=[])


@pytest.mark.parametrize(
    ("name", "mode", "known"), [("val/x/AP", "min", "max"), ("val/loss", "max", "min")]
)
def test_a_direction_against_the_known_one_is_said(
    name: str, mode: str, known: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = {**CHECKPOINT, "monitor": name, "mode": mode}
    assert settled({"a": node}, LOGGED, trust=[])["a"] == node
    assert f"callbacks.a.mode: expected {known} of {name}, got {mode}" in caplog.text


def test_callbacks_of_others_may_log_what_is_watched() -> None:
    own = {**CHECKPOINT, "monitor": "mine", "mode": "max"}
    found = settled({"a": own, "b": {"_target_": "mine.Logs"}}, LOGGED, trust=[])
    assert found["a"] == own


def test_without_validation_a_checkpoint_keeps_the_newest_and_nothing_can_stop_early() -> None:
    nothing = Logged({}, [], None)
    found = settled({"a": {**CHECKPOINT, "monitor": "main"}}, nothing, trust=[])
    assert found["a"] == {**CHECKPOINT, "monitor": None}
    for monitor in ("main", "val/loss"):
        with pytest.raises(UsageError, match="there is no validation|with a validation split"):
            settled({"a": {**STOPPING, "monitor": monitor}}, nothing, trust=[])


def test_what_a_sweep_is_told_is_checked() -> None:
    test = Logged({"test/x/AP": "max"}, [], None)
    logged = {"val": LOGGED, "test": test}
    assert objective_name("main", logged) == "val/x/AP"
    assert objective_name("test/x/AP", logged) == "test/x/AP"
    with pytest.raises(UsageError, match="objective: expected one of main, .* got 'val/x/AP5'"):
        objective_name("val/x/AP5", logged)
    check_direction("val/x/AP", "maximize", logged)
    check_direction("val/x/AP50", "minimize", logged)  # nobody says what is better of it
    with pytest.raises(UsageError, match=r"hydra\.sweeper\.direction: expected maximize"):
        check_direction("val/x/AP", "minimize", logged)


@pytest.mark.parametrize("error", [KeyError("names"), RuntimeError("no"), AttributeError("x")])
def test_an_error_in_a_plug_in_names_the_head(error: Exception) -> None:
    class Broken(Judged):
        def make_metrics(self, info: Any) -> dict[str, Metric]:
            raise error

    with pytest.raises(ValueError, match=rf"heads\.x\.make_metrics: {type(error).__name__}"):
        asked({"x": Broken({}, None)})
    with pytest.raises(ValueError, match=r"metrics\.x\.own: ValueError: Unexpected"):
        asked({"x": detector()}, {"x": {"own": partial(CocoMap, nmaes=[])}})


def test_without_a_logger_nothing_is_left_that_needs_one() -> None:
    from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor, Timer

    callbacks = [LearningRateMonitor(), Timer(), DeviceStatsMonitor()]
    assert _loggable(callbacks, []) == callbacks[1:2]
    assert _loggable(callbacks, ["any"]) == callbacks


ACCURACY = "callbacks.checkpoint.monitor=val/classification/accuracy"
LATE = [
    (["callbacks.checkpoint.monitor=val/classification/acuracy"], "did you mean 'val/class"),
    (["metrics.classification.accuracy=null", ACCURACY], "got 'val/classification/accuracy'"),
    (["callbacks=[default,early_stopping]", "callbacks.early_stopping.monitor=null"], "got 'null'"),
]


@pytest.mark.parametrize(("words", "message"), LATE)
def test_runs_are_refused_before_they_begin(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, *words]) == 2
    assert message in capsys.readouterr().err
    written = {file.name for file in only(only(tmp_path / "runs")).iterdir()}
    assert written <= {"config.yaml", "console.log", "run.json"}


def test_the_main_metric_is_watched_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["callbacks=[default,early_stopping]", "callbacks.checkpoint.monitor=main"]
    assert main(["train", *TINY, *words, "logger=none", "trainer.max_epochs=1"]) == 0
    run = only(only(tmp_path / "runs"))
    state = torch.load(run / "checkpoints" / "epoch_000.ckpt", weights_only=True)["callbacks"]
    (saver,) = (value for key, value in state.items() if key.startswith("Checkpoint"))
    assert saver["monitor"] == "val/classification/accuracy"
    assert any(key.startswith("EarlyStopping") and "'max'" in key for key in state)
