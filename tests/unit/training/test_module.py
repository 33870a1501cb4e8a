"""The LightningModule: what it logs, what reaches a metric, what it draws its randomness from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torchmetrics import Metric

from densekit.metrics import (
    Accuracy,
    BoundaryF,
    BoundaryIoU,
    CalibrationError,
    CocoMap,
    DiceScore,
    Identification,
    MaskCalibration,
    MeanIoU,
    MultilabelMap,
    SurfaceDistances,
    Verification,
    VocMap,
)
from densekit.training import Checkpoint
from densekit.training.metric_set import MetricSet
from densekit.training.module import LitModel
from densekit.types import Batch, Features
from tests.unit.training.fakes import (
    FakeData,
    FakeInferer,
    FakeMetric,
    FakeModel,
    FakeSource,
    fake_lit,
    trainer,
)

MASKS = (MeanIoU, DiceScore, SurfaceDistances, BoundaryIoU, BoundaryF, MaskCalibration)


def test_logs_every_term_and_figure_under_the_head(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(fake_lit(), datamodule=FakeData())
    assert {name for name in run.callback_metrics if name.startswith("train/")} == {
        "train/spot/loss/box",
        "train/spot/loss/weight",
        "train/loss",
    }
    figures = {"distance", "count", "distance/cat"}
    assert {name for name in run.callback_metrics if name.startswith("val/")} == {
        "val/spot/loss/box",
        "val/spot/loss/weight",
        "val/loss",
        *(f"val/spot/{figure}" for figure in figures),
    }
    assert torch.isnan(run.callback_metrics["val/spot/distance/cat"])


def test_without_whole_images_validation_has_figures_and_no_loss(tmp_path: Path) -> None:
    class Windows:
        whole_image = False

        def __call__(self, model: FakeModel, batch: Batch, features: Features | None) -> Any:
            assert features is None
            return FakeInferer()(model, batch, model.features(batch))

    run, lit = trainer(tmp_path, max_epochs=1), fake_lit()
    lit.inferer = Windows()
    run.fit(lit, datamodule=FakeData())
    logged = {name for name in run.callback_metrics if name.startswith("val/")}
    assert logged == {"val/spot/distance", "val/spot/count", "val/spot/distance/cat"}


def test_total_loss_is_the_sum_of_the_terms(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(fake_lit(), datamodule=FakeData())
    logged = run.callback_metrics
    for stage in ("train", "val"):
        terms = logged[f"{stage}/spot/loss/box"] + logged[f"{stage}/spot/loss/weight"]
        torch.testing.assert_close(logged[f"{stage}/loss"], terms)


def test_samples_that_are_not_valid_reach_no_metric(tmp_path: Path) -> None:
    # 5 images in batches of 2: the loader repeats one to fill the last batch.
    run = trainer(tmp_path)
    run.test(fake_lit(), datamodule=FakeData(), verbose=False)
    assert run.callback_metrics["test/spot/count"] == 5


def test_each_data_set_is_named_where_there_are_several(tmp_path: Path) -> None:
    sources = {"a": FakeSource(("spot",)), "b": FakeSource(("blob",), eval_count=3)}
    lit = fake_lit(FakeModel(heads=("spot", "blob")))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(lit, datamodule=FakeData(sources))
    assert run.callback_metrics["val/a/spot/count"] == 5
    assert run.callback_metrics["val/b/blob/count"] == 3
    assert "val/a/blob/count" not in run.callback_metrics
    assert {
        "train/a/spot/loss/box",
        "train/b/blob/loss/box",
        "val/b/loss",
    } <= run.callback_metrics.keys()


def test_facts_are_measured_on_the_whole_validation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the first batches of a sanity check nor on the test."""
    noted: list[Any] = []
    monkeypatch.setattr(MetricSet, "note_facts", lambda self, info: noted.append(info))
    lit = fake_lit()
    run = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=1)
    run.fit(lit, datamodule=FakeData())
    assert len(noted) == 1
    run.test(lit, datamodule=FakeData(), verbose=False)
    assert len(noted) == 1
    run.validate(lit, datamodule=FakeData(), verbose=False)
    assert len(noted) == 2


def test_every_head_of_a_step_gets_a_gradient(tmp_path: Path) -> None:
    sources = {"a": FakeSource(("spot",)), "b": FakeSource(("blob",))}
    model = FakeModel(heads=("spot", "blob"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(
        fake_lit(model), datamodule=FakeData(sources)
    )
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == before.keys()


@pytest.mark.parametrize("recipe", [partial(FakeMetric), FakeMetric, FakeMetric(["x"])])
def test_metrics_from_the_configuration_replace_the_heads_own(
    tmp_path: Path, recipe: object
) -> None:
    lit = fake_lit(metrics={"spot": {"first": recipe, "second": recipe}})
    run = trainer(tmp_path)
    run.validate(lit, datamodule=FakeData(), verbose=False)
    figures = {name for name in run.callback_metrics if "count" in name}
    assert figures == {"val/spot/count", "val/spot/second/count"}
    assert run.callback_metrics["val/spot/second/count"] == 5


def test_metrics_of_an_unknown_head_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="got 'spto'; did you mean 'spot'"):
        fake_lit(metrics={"spto": {}})


def test_no_head_is_called_as_the_total_loss_is() -> None:
    with pytest.raises(ValueError, match=r"heads: expected another name .*, got .loss."):
        fake_lit(FakeModel(heads=("spot", "loss")))


def test_metrics_are_outside_the_state_dict(tmp_path: Path) -> None:
    lit = fake_lit()
    trainer(tmp_path).validate(lit, datamodule=FakeData(), verbose=False)
    assert {name.split(".")[0] for name in lit.state_dict()} == {"model"}


def test_the_same_step_draws_the_same_randomness_whatever_came_before(tmp_path: Path) -> None:
    losses = []
    for burnt in (0, 7):
        torch.manual_seed(5)
        model = FakeModel(dropout=0.5)
        torch.rand(burnt)
        run = trainer(tmp_path, max_steps=2, limit_val_batches=0)
        run.fit(fake_lit(model, seed=11), datamodule=FakeData())
        losses.append(run.callback_metrics["train/loss"])
    assert losses[0] == losses[1]


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    losses = []
    for seed in (0, 1):
        run = trainer(tmp_path, max_steps=1, limit_val_batches=0)
        run.fit(fake_lit(seed=seed), datamodule=FakeData())
        losses.append(run.callback_metrics["train/loss"])
    assert losses[0] != losses[1]


def test_compiled_loss_is_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = partial(torch.compile, backend="eager")
    monkeypatch.setattr("densekit.training.module.torch.compile", compiled)
    losses = []
    for compile in (False, True):
        run = trainer(tmp_path, max_steps=3, limit_val_batches=0)
        run.fit(fake_lit(compile=compile), datamodule=FakeData())
        losses.append(run.callback_metrics["train/loss"])
    torch.testing.assert_close(losses[0], losses[1])


def test_mixed_precision_trains_and_evaluates(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1, precision="bf16-mixed")
    lit = fake_lit()
    run.fit(lit, datamodule=FakeData())
    assert run.callback_metrics["val/spot/count"] == 5
    assert run.callback_metrics["train/loss"].isfinite()
    assert lit.model.backbone[0].weight.dtype == torch.float32


def test_weights_are_channels_last_unless_told_otherwise() -> None:
    def strides(channels_last: bool) -> tuple[int, ...]:
        model = FakeModel()
        fake_lit(model, channels_last=channels_last)
        return model.backbone[0].weight.stride()

    assert strides(True) == (27, 1, 9, 3)
    assert strides(False) == (27, 9, 3, 1)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    blind = LitModel(FakeModel())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inferer: expected one for val"):
        trainer(tmp_path).validate(blind, datamodule=FakeData(), verbose=False)
    with pytest.raises(ValueError, match="optimizer: expected one"):
        trainer(tmp_path, max_steps=1).fit(blind, datamodule=FakeData())


@pytest.mark.parametrize("kind", [Checkpoint, EarlyStopping])
def test_a_monitor_that_validation_does_not_measure_is_refused(
    tmp_path: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LitModel, "_eval_losses", lambda *_: {})  # targets are not in val
    callback = Checkpoint(tmp_path) if kind is Checkpoint else EarlyStopping("")
    callback.monitor = "val/loss"
    run = trainer(tmp_path, callbacks=[callback], max_epochs=1)
    message = r"expected one of val/spot/\w+, .* got 'val/loss'\nSet callbacks\.checkpoint\.monitor"
    with pytest.raises(ValueError, match=message):
        run.fit(fake_lit(), datamodule=FakeData())
    callback.monitor = "val/spot/count"
    trainer(tmp_path, callbacks=[callback], max_epochs=1).fit(fake_lit(), datamodule=FakeData())


class Named(FakeMetric):
    """Names its figures as it is told to."""

    def __init__(self, *figures: str) -> None:
        super().__init__([])
        self.figures = figures

    def compute(self) -> Any:
        return dict.fromkeys(self.figures, torch.zeros(()))


def test_a_loss_and_a_metric_of_one_name_have_their_own_keys(tmp_path: Path) -> None:
    lit = fake_lit(metrics={"spot": {"first": Named("box", "weight")}})
    run = trainer(tmp_path, max_epochs=1)
    run.fit(lit, datamodule=FakeData())
    logged = run.callback_metrics
    assert logged["val/spot/box"] == logged["val/spot/weight"] == 0
    terms = logged["val/spot/loss/box"] + logged["val/spot/loss/weight"]
    torch.testing.assert_close(logged["val/loss"], terms)
    assert terms > 0


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ((["loss"],), "expected a name outside spot/loss"),
        ((["loss/box"],), "expected a name outside spot/loss"),
        ((["second/a", "a"], ["a"]), "'spot/second/a' twice"),
    ],
)
def test_names_that_clash_are_refused(figures: Any, message: str) -> None:
    names = ("first", "second")
    metrics = {name: Named(*of) for name, of in zip(names, figures, strict=False)}
    with pytest.raises(ValueError, match=message):
        MetricSet({"spot": metrics}).names()


@pytest.mark.parametrize(
    "metric",
    [
        CocoMap(["a", "loss"]),
        VocMap(["a"], iou_thresholds=[0.5, 0.75]),
        Accuracy([*"abcdefg"]),
        MultilabelMap(["a"]),
        CalibrationError(),
        *(kind(["background", "pooled", "empty"], background=True) for kind in MASKS),
        Verification(),
        Identification(),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_every_metric_of_ours_knows_its_names_before_an_image(
    metric: Metric, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    names = MetricSet({"head": {"own": metric}}).names()
    assert names.unknown == []
    assert caplog.messages == []
    assert list(recwarn) == []
    assert len(names.modes) == len(metric.compute()) >= 1
    assert all(key.startswith("head/") for key in names.modes)


def test_gradients_are_clipped_in_bf16(tmp_path: Path) -> None:
    settings = {"precision": "bf16-mixed", "gradient_clip_val": 0.5, "max_steps": 1}
    run = trainer(tmp_path, limit_val_batches=0, **settings)
    run.fit(fake_lit(), datamodule=FakeData())
    assert run.global_step == 1
