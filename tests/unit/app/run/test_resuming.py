"""What may be set beside `resume=`: it takes effect, or it is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from densekit.app.cli import main
from densekit.app.errors import UsageError
from densekit.app.run.resuming import check_length, check_resumed
from tests.unit.app.small_run import SMALL_RUN

FOLDER = [
    *("data=image_folder", "head=classification", "neck=none", "metrics=classification"),
    *("resize=null", "~data.image_folder.train_transform", "data.image_folder.num_workers=0"),
    *("data.image_folder.batch_size=4", "backbone.width=8", "optimizer=adamw", "precision=32-true"),
    *("trainer.accelerator=cpu", "trainer.enable_model_summary=false", "trainer.max_epochs=1"),
    *("callbacks.pictures=null", "callbacks.progress=null", "schedule=constant"),
]


def draw(root: Path, classes: str, count: int = 4) -> Path:
    """A folder of pictures a class, for training and validation."""
    for split in ("train", "val"):
        for place, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (32, 32), (200 * place, 10 * number, 0))
                image.save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with one run, which began from pretrained weights that are gone."""
    from densekit.backbones import ResNet

    path = tmp_path_factory.mktemp("resume")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        draw(path / "old", "ab")
        torch.save(ResNet(depth=18, width=8).state_dict(), path / "pre.pth")
        weights = f"backbone.weights={path / 'pre.pth'}"
        assert main(["train", *FOLDER, weights, f"paths.data={path / 'old'}"]) == 0
        (path / "pre.pth").unlink()
        yield path


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    (run,) = (folder / "runs" / "train").iterdir()
    return run


def resumed(folder: Path, run: Path, *words: str, name: str) -> tuple[dict[str, Any], Any]:
    """Last checkpoint and configuration of the run that goes on."""
    line = ["train", f"resume={run}", f"run_name={name}", "trainer.max_epochs=2", *words]
    assert main(line) == 0
    (own,) = (folder / "runs" / name).iterdir()
    checkpoint = torch.load(own / "checkpoints" / "last.ckpt", weights_only=True)
    cfg = yaml.safe_load((own / "config.yaml").read_text())
    kept = yaml.safe_load(checkpoint["config"])
    for key in ("data", "optimizer", "schedule", "seed", "trainer"):
        assert kept[key] == cfg[key]
    return checkpoint, cfg


def test_what_is_set_takes_effect(folder: Path, run: Path) -> None:
    draw(folder / "new", "ab")
    words = ["optimizer.lr=0.5", "optimizer.weight_decay=0.25", f"paths.data={folder / 'new'}"]
    words += ["schedule.warmup_factor=0.5", "schedule.warmup_steps=100"]
    checkpoint, cfg = resumed(folder, run, *words, name="changed")
    assert checkpoint["global_step"] == 4
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    assert {group["initial_lr"] for group in groups} == {0.5}
    assert {group["weight_decay"] for group in groups} == {0.25, 0.0}
    assert 0.25 <= groups[0]["lr"] <= 0.5
    assert cfg["data"]["image_folder"]["train"]["root"] == str(folder / "new" / "train")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=7", "seed: expected 0"),
        ("backbone.depth=34", "backbone.depth: expected 18"),
        ("backbone.weights=pre.pth", "backbone.weights: expected nothing"),
        ("data.image_folder.batch_size=2", "data.image_folder.batch_size: expected 4"),
        ("trainer.devices=2", "data.image_folder.batch_size: expected 2 with 2 processes, as a"),
        ("trainer.devices=3", "batch_size: expected a number of processes that divides 4"),
        ("training.base_batch_size=4", "training.base_batch_size: expected nothing"),
        ("optimizer._target_=torch.optim.SGD", "optimizer._target_: expected torch.optim.AdamW"),
        ("optimizer=sgd", "optimizer._target_: expected torch.optim.AdamW"),
        ("backbone=resnet34", "backbone.depth: expected 18"),
        ("debug=limit", "as in"),
        ("reset_head=true", "reset_head: expected False"),
        ("trainer.max_epochs=0", "trainer.max_epochs: expected more than 0"),
        ("checkpoint=RUN", "resume, checkpoint: expected one of the two"),
    ],
)
def test_what_cannot_take_effect_is_refused(
    run: Path,
    word: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", f"resume={run}", word.replace("RUN", str(run))]) == 2
    assert message in capsys.readouterr().err


def test_other_pictures_are_refused(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "other", "cd")
    assert main(["train", f"resume={run}", f"paths.data={folder / 'other'}"]) == 2
    assert "expected the classes ['a', 'b']" in capsys.readouterr().err
    draw(folder / "more", "ab", 5)
    words = [f"resume={run}", f"paths.data={folder / 'more'}", "trainer.max_epochs=2"]
    assert main(["train", *words]) == 2
    assert "expected the 8 images of the resumed run" in capsys.readouterr().err


def test_the_same_words_again_with_resume(folder: Path, run: Path) -> None:
    words = [*FOLDER, f"paths.data={folder / 'old'}", f"backbone.weights={folder / 'pre.pth'}"]
    line = ["train", *words, f"resume={run}", "run_name=again", "trainer.max_epochs=2"]
    assert main(line) == 0
    assert main([*line, "seed=3"]) == 2


def test_a_copied_run_resumes_from_its_furthest_checkpoint(folder: Path, run: Path) -> None:
    copy = folder / "copy" / "checkpoints"
    copy.mkdir(parents=True)
    shutil.copyfile(run / "checkpoints" / "last.ckpt", copy / "last.ckpt")
    first = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**first, "global_step": 1, "epoch": 0}, copy / "epoch_000.ckpt")  # newer, behind
    _, cfg = resumed(folder, copy.parent, name="copied")
    assert cfg["resume"] == str(copy / "last.ckpt")


def test_rendered_data_lie_in_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL_RUN, "test=false"]) == 0
    (run,) = (tmp_path / "runs" / "quickstart_classification").iterdir()
    assert main(["train", f"resume={run}", "paths.data=/x"]) == 2
    assert "got none of scenes there" in capsys.readouterr().err
    assert json.loads((run / "metrics.json").read_text())


def test_groups_that_leave_the_training_alone_may_be_chosen_anew(folder: Path, run: Path) -> None:
    words = ["trainer=cpu", "logger=none", "schedule=multistep", "callbacks=[default,ema]"]
    words += ["callbacks.pictures=null", "callbacks.progress=null"]
    _, cfg = resumed(folder, run, *words, name="chosen")
    assert cfg["logger"] == {}
    assert cfg["schedule"]["_target_"] == "densekit.training.MultiStep"
    assert "ema" in cfg["callbacks"]
    assert cfg["trainer"]["enable_model_summary"] is False  # of the stored settings


@pytest.mark.parametrize(
    ("before", "now", "key"),
    [
        ({"heads": {"a": {"width": 3}}}, {"heads": {"a": {}}}, "heads.a.width"),
        ({"data": {"x": {"seed": 0}}}, {"data": {"x": {"seed": 1}}}, "data.x.seed"),
        ({"optimizer": {"lr": 1}}, {"optimizer": {"lr": 1, "nesterov": True}}, "nesterov"),
        ({"training": {"seed": 0}}, {"training": {"seed": 1}}, "training.seed"),
        ({"neck": None}, {"neck": {"_target_": "densekit.necks.FPN"}}, "neck._target_"),
        ({"data": {"x": {"train": {}}}}, {"data": {}}, "data.x.train"),
    ],
)
def test_every_other_key_is_refused(before: dict[str, Any], now: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError, match=key):
        check_resumed(before, now, Path("last.ckpt"))


def test_what_leaves_the_training_as_it_was_may_change() -> None:
    before = {"data": {"x": {"num_workers": 0, "train": {"root": "a"}, "test": {"n": 1}}}}
    now = {"data": {"x": {"num_workers": 4, "train": {"root": "b"}, "eval_batch_size": 2}}}
    free = {"trainer": {"devices": 2}, "callbacks": {}, "logger": {"csv": None}, "precision": "x"}
    check_resumed(before, {**now, **free}, Path("last.ckpt"))
    for trainer in ({"max_epochs": -1}, {"max_epochs": 4}, {"max_steps": 3}, {"max_epochs": None}):
        check_length(trainer, 3, Path("last.ckpt"))
