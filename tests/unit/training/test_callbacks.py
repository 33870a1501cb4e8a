"""Table, metrics file, curves and pictures of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from densekit.training import (
    Checkpoint,
    Curves,
    MetricsFile,
    MetricsTable,
    RunPictures,
    run_pictures,
)
from densekit.training.curves import Series, draw_curves
from densekit.training.metrics_file import json_figures
from densekit.training.metrics_table import figures_table
from densekit.training.run_pictures import draw_batch, draw_result, save_grid
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.colours import BACKGROUND, class_colour
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
    assert json_figures(logged) == {"val/a": None}


def test_sanity_check_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    callbacks = [MetricsFile(path), MetricsTable(), Curves(tmp_path / "c.png")]
    settings = {"num_sanity_val_steps": 2, "max_epochs": 1, "limit_train_batches": 1}
    run = trainer(tmp_path, callbacks=callbacks, **settings, check_val_every_n_epoch=2)
    run.fit(fake_lit(), datamodule=FakeData())
    assert not path.exists()


def test_table_shows_main_figures_then_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callbacks = [MetricsTable(), Checkpoint(tmp_path, "val/spot/count")]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=2)
    run.fit(fake_lit(), datamodule=FakeData())
    first, second, last = capsys.readouterr().out.split("alidation")[1:]
    assert "after epoch 0" in first
    assert first.index("spot/count") < first.index("loss")  # what is watched comes first
    assert "spot/count" in first
    assert "spot/distance/cat" not in first
    assert "change" not in first
    assert "change" in second
    assert "spot/distance/cat │ " in last


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


@pytest.mark.parametrize("points", [1, 2])
def test_curves_show_a_single_point(tmp_path: Path, points: int) -> None:
    shown = {"train/loss": [(step, 1.5) for step in range(points)]}
    draw_curves(shown, tmp_path / "curves.png")
    inside = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)[:, :780]
    assert (np.ptp(inside, axis=2) > 60).sum() > 5  # coloured, unlike axes and grid


def test_curves_average_the_steps_between_two_points(tmp_path: Path) -> None:
    fine, coarse = Curves(tmp_path / "a.png"), Curves(tmp_path / "b.png")
    for curves, every in ((fine, 1), (coarse, 4)):
        run = trainer(tmp_path, callbacks=[curves], max_epochs=1, log_every_n_steps=every)
        run.fit(fake_lit(), datamodule=FakeData())
    mean = np.mean([value for _, value in fine.series["train/loss"]])
    assert coarse.series["train/loss"] == [(4, pytest.approx(mean))]


def test_main_figures_of_several_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FakeData({"a": FakeSource(), "b": FakeSource()})
    curves = Curves(tmp_path / "curves.png")
    run = trainer(tmp_path, callbacks=[MetricsTable(), curves], max_epochs=1)
    run.fit(fake_lit(), datamodule=data)
    first = capsys.readouterr().out.split("Last")[0]
    for name in ("a/spot/distance", "b/spot/distance", "b/loss"):
        assert f"{name} " in first
        assert f"val/{name}" in curves.series
    assert "distance/cat" not in first


def test_curves_without_validation(tmp_path: Path) -> None:
    draw_curves({"train/loss": [(1, 2.0)], "lr": [(1, 0.1)]}, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").stat().st_size > 1000


def test_pictures_of_a_run(tmp_path: Path) -> None:
    sources = {"a": FakeSource(("spot",)), "b": FakeSource(("blob",))}
    lit = fake_lit(FakeModel(heads=("spot", "blob")))
    run = trainer(tmp_path, callbacks=[RunPictures(tmp_path, images=2)], max_epochs=1)
    run.fit(lit, datamodule=FakeData(sources))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["loader.png", "predictions.png"]


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


def make_batch(**changes: Any) -> dict[str, Any]:
    image = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    batch = {
        "image": image,
        "size": torch.tensor([[20, 30]]),
        "boxes": torch.tensor([[[2.0, 2.0, 12.0, 12.0], [0.0, 0.0, 0.0, 0.0]]]),
        "boxes_valid": torch.tensor([[True, False]]),
        "labels": torch.tensor([[1, 0]]),
        "meta": [{"original_size": (40, 60)}],
        "truth": [{"boxes": np.array([[4.0, 4, 24, 24]]), "labels": np.array([1])}],
    }
    return batch | changes


def test_loader_picture_leaves_padding_out_and_draws_valid_boxes_only() -> None:
    (picture,) = draw_batch(make_batch(), ["cat", "dog"], 8, {})
    assert picture.shape[1] / picture.shape[0] == 1.5
    assert picture.any()
    (empty,) = draw_batch(make_batch(boxes_valid=torch.tensor([[False, False]])), [], 8, {})
    assert not empty.any()


def test_volumes_and_images_without_boxes_are_no_error() -> None:
    volume = make_batch(image=torch.zeros(1, 1, 4, 4, 4))
    assert draw_batch(volume, [], 8, {}) == []
    plain = {key: value for key, value in make_batch().items() if "boxes" not in key}
    assert len(draw_batch(plain, [], 8, {})) == 1
    assert draw_result(make_batch(truth=[{}]), 0, {"x": {"mask": np.zeros(1)}}, [], 0.5, {}) == []


@pytest.mark.parametrize("multilabel", [False, True])
def test_masks_are_drawn_beside_the_truth_with_their_names(multilabel: bool) -> None:
    truth = np.zeros((40, 60), np.uint8)
    truth[:20] = 1
    found = np.ones((40, 60), np.uint8)
    expected, mask = (np.stack([m, m]) if multilabel else m for m in (truth, found))
    batch: Any = make_batch(truth=[{"mask": expected}])
    (row,) = draw_result(batch, 0, {"seg": {"mask": mask}}, [], 0.5, {1: "cell"})
    colour = np.array(class_colour(1)) * 0.4  # over a black image
    tinted = (np.abs(row.astype(float) - colour).max(2) < 2).mean(0)
    left, right = tinted[: len(tinted) // 2].max(), tinted[len(tinted) // 2 :].max()
    assert left > 1.5 * right > 0  # prediction, truth
    below = (row == class_colour(1)).all(2)[-30:]
    assert below.any()  # the legend
    batch["mask"] = torch.zeros(1, 40, 60, dtype=torch.uint8)
    (cell,) = draw_batch(batch, [], 8, {1: "cell"})
    assert cell.shape[1] / 60 * 40 < cell.shape[0]


def test_masks_of_series_are_drawn_over_their_lines() -> None:
    mask = np.zeros((1, 10), np.uint8)
    mask[0, 5:8] = 1
    batch = make_batch(
        image=torch.arange(12.0).view(1, 1, 12),
        size=torch.tensor([[10]]),
        mask=torch.from_numpy(np.pad(mask, ((0, 0), (0, 2)))),
        truth=[{"image_id": 0, "mask": mask[0]}],
    )
    (cell,) = draw_batch(batch, [], 8, {1: "beat"})
    tinted = (cell[120] != BACKGROUND).any(axis=1)
    inside = np.flatnonzero(tinted)
    assert (inside.min(), inside.max()) == pytest.approx(
        (4 + 4.5 * 471 / 9, 4 + 7.5 * 471 / 9), abs=3
    )
    (row,) = draw_result(batch, 0, {"seg": {"mask": mask[0]}}, [], 0.5, {1: "beat"})
    assert row.shape[1] > 2 * 480


def test_of_a_volume_the_fullest_slice_is_drawn() -> None:
    image = torch.zeros(1, 2, 3, 8, 8)
    image[0, 0, 1] = 9  # the slice in the middle is bright
    truth = np.zeros((6, 16, 16), np.uint8)
    truth[2, :8] = truth[3, :8] = 1
    truth[0, :4] = 1
    batch: Any = make_batch(
        image=image,
        size=torch.tensor([[3, 8, 8]]),
        mask=torch.from_numpy(truth[::2, ::2, ::2].copy())[None],
        truth=[{"mask": truth}],
    )
    (row,) = draw_result(batch, 0, {"seg": {"mask": truth}}, [], 0.5, {1: "organ"})
    assert (row == 255).all(2).mean() > 0.2  # the bright slice beneath, where no class is
    (cell,) = draw_batch(batch, [], 8, {1: "organ"})
    assert (cell == 255).all(2).mean() > 0.2


def test_predictions_and_truth_are_drawn_in_the_frame_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Any] = []
    original = draw_boxes

    def record(image: Any, boxes: Any, *rest: Any) -> Any:
        drawn.append(boxes)
        return original(image, boxes, *rest)

    monkeypatch.setattr(run_pictures, "draw_boxes", record)
    # The image was halved; results and truth are in the original frame.
    result = {
        "boxes": np.array([[6.0, 6, 26, 26], [0.0, 0, 9, 9]]),
        "labels": np.array([2, 0]),  # a class without a name
        "scores": np.array([0.9, 0.4]),
    }
    rows = draw_result(make_batch(), 0, {"any": result, "other": {}}, ["cat", "dog"], 0.5, {})
    assert len(rows) == 1
    truth, found = drawn
    np.testing.assert_array_equal(truth, [[2, 2, 12, 12]])
    np.testing.assert_array_equal(found, [[3, 3, 13, 13]])


@pytest.mark.parametrize("size", [(1500, 2000), (30, 20000), (20000, 30), (700, 640)])
def test_pictures_of_large_images_are_bounded(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = size
    box = np.array([[0.0, 0, width / 2, height]])
    mask = np.zeros(size, np.uint8)
    mask[:, : width // 2] = 1
    batch: Any = make_batch(
        image=torch.zeros(1, 3, *size, dtype=torch.uint8),
        size=torch.tensor([size]),
        boxes=torch.tensor(box)[None],
        boxes_valid=torch.tensor([[True]]),
        labels=torch.tensor([[0]]),
        meta=[{"original_size": size}],
        truth=[{"boxes": box, "labels": np.array([0]), "mask": mask}],
    )
    found = {"boxes": box, "labels": np.array([0]), "scores": np.array([0.9])}
    rows = draw_result(batch, 0, {"d": found, "s": {"mask": mask}}, ["cat"], 0.5, {1: "cat"})
    assert len(rows) == 2
    cells = draw_batch(batch, ["cat"], 8, {1: "cat"})
    cells += draw_batch({**batch, "mask": torch.from_numpy(mask)[None]}, [], 8, {1: "cat"})
    for row in [*rows, *cells]:
        assert row.shape[0] <= 800
        assert row.shape[1] <= 2 * 1920 + 100
    if min(size) > 600:  # the mask is still where it was
        left, right = np.split((cells[1][100] == 0).all(1), [cells[1].shape[1] // 2])
        assert left.mean() < 0.1
        assert right.mean() > 0.9
    save_grid([*rows, *cells], 1, tmp_path / "all.png")
    width, height = Image.open(tmp_path / "all.png").size
    assert width <= 2 * 1920 + 200
    assert height <= 4 * 900


def test_names_are_text_in_the_table_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["AP/[old]", "AP/[/x]", "AP/[bold]a[/bold]", "AP/:cat:", "AP/a\\"]
    Console(file=sys.stdout, width=80).print(figures_table("[red]", dict.fromkeys(names, 0.5), {}))
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("[red]", *names))
