"""Train, resume, evaluate and predict, in process, on a handful of tiny scenes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from densekit.app.cli import main
from densekit.app.config import groups, resolve
from densekit.app.run import fit

TINY = [
    *("experiment=quickstart", "seed=3", "precision=32-true", "trainer.accelerator=cpu"),
    *("data.scenes.train.length=4", "data.scenes.val.length=2", "data.scenes.test.length=3"),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val", "test")),
    *("data.scenes.batch_size=2", "data.scenes.eval_batch_size=2", "neck.out_channels=32"),
    *("callbacks.pictures=null", "callbacks.progress=null", "trainer.enable_progress_bar=false"),
    "trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with an odd name, in which one run has been trained."""
    path = tmp_path_factory.mktemp("wörk (1)=[")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["train", *TINY]) == 0
        yield path


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    (run,) = (folder / "runs" / "quickstart").iterdir()
    return run


def test_run_folder_holds_everything(run: Path) -> None:
    figures = json.loads((run / "metrics.json").read_text())
    assert "val/detection/AP50" in figures
    assert "test/detection/AP50" in figures
    cfg = yaml.safe_load((run / "config.yaml").read_text())
    assert cfg["heads"]["detection"]["num_classes"] == 5
    assert cfg["backbone"]["in_channels"] == 3
    assert cfg["paths"]["run"] == str(run)
    assert "${" not in (run / "config.yaml").read_text()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "curves.png").is_file()


@pytest.mark.parametrize("debug", groups.options("debug"))
def test_every_debug_option_trains_on_few_images(
    debug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1", "backbone.width=8"]
    assert main(["train", *TINY, f"debug={debug}", *short]) == 0


def test_checkpoint_carries_config_and_info(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert yaml.safe_load(content["config"])["backbone"]["depth"] == 18
    assert content["info"]["heads"]["detection"]["num_classes"] == 5


def test_resume_passes_over_a_truncated_checkpoint(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    try:
        words = [f"resume={last}", "trainer.max_epochs=2", "test=false", "run_name=resumed"]
        assert main(["train", *words]) == 0
        assert main(["eval", f"checkpoint={last}"]) == 2
    finally:
        last.write_bytes(whole)
    captured = capsys.readouterr()
    assert "previous checkpoint" in captured.err
    assert "last.ckpt: expected an intact file, got a truncated or damaged file" in captured.err
    (resumed,) = (folder / "runs" / "resumed").iterdir()
    content = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4  # two epochs of two steps


def test_eval_repeats_the_figures_of_the_run(folder: Path, run: Path) -> None:
    best = f"checkpoint={run}"
    assert main(["eval", best, "output=out/eval"]) == 0
    trained = json.loads((run / "metrics.json").read_text())
    measured = json.loads((folder / "out" / "eval" / "metrics.json").read_text())
    figures = {name for name in measured if name.startswith("test/")}
    assert figures
    assert {name: measured[name] for name in figures} == {name: trained[name] for name in figures}


def test_eval_reads_its_data_once(folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, read = [], resolve.build_sources
    monkeypatch.setattr(resolve, "build_sources", lambda *given: built.append(1) or read(*given))
    monkeypatch.setattr(fit, "build_sources", lambda *_: pytest.fail("built once more"))
    assert main(["eval", f"checkpoint={run}", f"output={folder / 'once'}"]) == 0
    assert built == [1]


def _changed(checkpoint: Path, file: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a checkpoint with another configuration."""
    content = torch.load(checkpoint, weights_only=True)
    cfg = yaml.safe_load(content["config"])
    change(cfg)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "config": yaml.safe_dump(cfg)}, file)
    return file


HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "callbacks.metrics_file.path": lambda c: c["callbacks"]["metrics_file"].update(path="/x.json"),
    "callbacks.curves.path": lambda c: c["callbacks"]["curves"].update(path="x.png"),
    "callbacks.checkpoint.folder": lambda c: c["callbacks"]["checkpoint"].update(
        folder=c["paths"]["run"] + "/../../x"
    ),
    "logger.csv.save_dir": lambda c: c["logger"]["csv"].update(save_dir="/x"),
    "logger.csv.name": lambda c: c["logger"]["csv"].update(name="../../x"),
    "run_name": lambda c: c.update(run_name="../x"),
    "optimizer._target_": lambda c: c.update(optimizer={"_target_": "densekit.Predictor"}),
    "trainer.profiler._target_": lambda c: c["trainer"].update(
        profiler={"_target_": "densekit.Predictor"}
    ),
    "inferer._target_": lambda c: c.update(inferer={"_target_": "my_head.X"}, trust=["my_head"]),
}


@pytest.mark.parametrize("key", HOSTILE)
def test_resume_builds_and_writes_nothing_that_a_file_asks_for(
    key: str, folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = folder / "hostile" / "last.ckpt"
    _changed(run / "checkpoints" / "last.ckpt", hostile, HOSTILE[key])
    before = set(folder.rglob("*"))
    assert main(["train", f"resume={hostile}", "trainer.max_epochs=2"]) == 2
    assert f"last.ckpt: {key}: " in capsys.readouterr().err
    assert set(folder.rglob("*")) == before


def test_eval_writes_where_the_user_says_and_nowhere_else(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(cfg: dict[str, Any]) -> None:
        cfg |= {"artifact": str(folder / "stolen.pt"), "trust": ["my_head"]}
        cfg["paths"] |= {"runs": str(folder / "elsewhere"), "run": str(folder / "elsewhere")}
        cfg["callbacks"]["curves"]["path"] = str(folder / "elsewhere" / "curves.png")

    hostile = _changed(run / "checkpoints" / "last.ckpt", folder / "sent" / "last.ckpt", change)
    assert main(["eval", f"checkpoint={hostile}", "output=out/sent"]) == 0
    assert yaml.safe_load((folder / "out" / "sent" / "config.yaml").read_text())["trust"] == []
    hostile = _changed(hostile, hostile, lambda cfg: cfg.update(inferer={"_target_": "my_head.X"}))
    assert main(["eval", f"checkpoint={hostile}", "output=out/sent"]) == 2
    assert "inferer._target_: expected a class of densekit" in capsys.readouterr().err
    assert not (folder / "stolen.pt").exists()
    assert not (folder / "elsewhere").exists()


def test_eval_measures_whole_splits_in_float32_whatever_the_training_was_told(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(cfg: dict[str, Any]) -> None:
        cfg["trainer"] |= {"limit_test_batches": 1, "limit_val_batches": 1}
        cfg["precision"] = cfg["trainer"]["precision"] = "bf16-mixed"

    limited = _changed(run / "checkpoints" / "last.ckpt", folder / "limited" / "last.ckpt", change)
    words = ["metrics=[coco,voc]", "output=out/limited"]
    assert main(["eval", f"checkpoint={limited}", *words]) == 0
    trained = json.loads((run / "metrics.json").read_text())
    measured = json.loads((folder / "out" / "limited" / "metrics.json").read_text())
    coco = {name for name in trained if name.startswith("test/detection/AP")}
    assert len(coco) == 11  # six, and one per class
    assert {name: measured[name] for name in coco} == {name: trained[name] for name in coco}
    assert {"test/detection/VOC07_AP50", "test/detection/VOC10_AP50"} <= measured.keys()
    assert (measured["epoch"], measured["step"]) == (trained["epoch"], trained["step"])
    assert "precision: 32-true" in capsys.readouterr().err
    words = ["trainer.limit_test_batches=1", "metrics=voc", "output=out/few"]
    assert main(["eval", f"checkpoint={limited}", *words]) == 0
    few = json.loads((folder / "out" / "few" / "metrics.json").read_text())
    assert "test/detection/AP" not in few
    assert few["test/loss"] != measured["test/loss"]


def test_eval_of_other_data(folder: Path, run: Path) -> None:
    words = [f"checkpoint={run / 'checkpoints' / 'last.ckpt'}", "data=scenes", "split=val"]
    words += ["data.scenes.val.length=1", "data.scenes.val.size=[64,96]", "output=out/other"]
    assert main(["eval", *words]) == 0
    figures = json.loads((folder / "out" / "other" / "metrics.json").read_text())
    assert any(name.startswith("val/detection/") for name in figures)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split=tets"], "split: expected one of test, val, got tets"),
        (["backbone=resnet50"], "which the checkpoint sets"),
        (["paths.data=/x"], "got none of scenes there"),
        (["paths.runs=/x"], "an evaluation does not use"),
        (["optimizer.lr=1"], "an evaluation does not use"),
        (["trainer.max_epochs=1"], "an evaluation does not use"),
        (["seed=1"], "an evaluation does not use"),
        (["trainer.max_epoch=1"], "did you mean 'max_epochs'"),
        (["data=scene"], "did you mean 'scenes'"),
    ],
)
def test_eval_refuses(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", f"checkpoint={run / 'checkpoints' / 'last.ckpt'}", *words]) == 2
    assert message in capsys.readouterr().err


def test_predict_names_broken_images_and_keeps_the_others(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder / "pictures"
    source.mkdir()
    Image.new("RGB", (70, 50), "red").save(source / "good.png")
    (source / "broken.jpg").write_bytes((source / "good.png").read_bytes()[:60])
    words = [f"checkpoint={run}", f"source={source}", "output=out/p"]
    assert main(["predict", *words]) == 1
    assert "broken.jpg" in capsys.readouterr().out
    assert isinstance(json.loads((folder / "out" / "p" / "results.json").read_text()), list)
    (entry,) = json.loads((folder / "out" / "p" / "images.json").read_text())
    assert (entry["width"], entry["height"]) == (70, 50)
    assert (folder / "out" / "p" / "overlays" / "good.jpg").is_file()


def test_sweep_gives_each_job_its_folder_and_names_the_failed_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = "data.scenes.train.length=2,0"
    words = [word for word in TINY if "train.length" not in word]
    assert main(["train", "-m", *words, "test=false", "run_name=sweep", lengths]) == 1
    (sweep,) = (folder / "runs" / "sweep").iterdir()
    assert (sweep / "0" / "metrics.json").is_file()
    out = capsys.readouterr().out
    assert "1 of 2 jobs done" in out
    assert "job 1" in out.split("jobs done")[1]
    assert "train.length=0" in out.split("jobs done")[1]


def test_weights_of_another_run_are_taken_over(
    folder: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [*TINY, "test=false", "run_name=start", "trainer.max_steps=1"]
    start = f"checkpoint={run}"
    assert main(["train", *words, start]) == 0
    assert main(["train", *words, f"checkpoint={folder / 'nothing.ckpt'}"]) == 2
