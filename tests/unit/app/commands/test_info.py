"""`densekit info` on an artifact that was really written."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from densekit.app.cli import main
from densekit.app.commands import info
from densekit.app.errors import UsageError
from densekit.app.results.description import threshold_lines
from densekit.artifact import save_artifact
from densekit.backbones import ResNet
from densekit.heads import UNet
from densekit.model import DenseModel

NAMES = ["road", "car"]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    head = partial(UNet, num_classes=2, depth=1, decoder_channels=(8,))
    known = {
        "heads": {"segmentation": {"names": NAMES, "ids": [7, 26], "num_classes": 2}},
        "resize": None,
        "mean": [1.0, 2.5, 3.0],
        "version": "0.1.0",
    }
    model = DenseModel(ResNet(18), heads={"segmentation": head}, info=known)
    config = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "weights": "/gone.pth"},
        "neck": None,
        "heads": {
            "segmentation": {
                "_target_": "densekit.heads.UNet",
                "num_classes": 2,
                "depth": 1,
                "decoder_channels": [8],
                "losses": {"ce": {"_target_": "densekit.losses.PixelCrossEntropy"}},
            }
        },
        "data": {"streets": {}},
        "seed": 3,
    }
    file = tmp_path / "epoch=3.ckpt"
    save_artifact(file, model, yaml.safe_dump(config))
    return file


def test_table_has_what_a_user_asks_for(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([str(artifact)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("densekit 0.1.0", "7 road, 26 car", "2.5", "depth 18", "streets", "as stored"):
        assert word in printed, word


def test_json_is_complete(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([str(artifact), "json=true"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["heads"]["segmentation"]["names"] == NAMES
    assert facts["heads"]["segmentation"]["settings"]["decoder_channels"] == [8]
    assert facts["backbone"]["settings"] == {"depth": 18}  # weights are in the file
    assert (facts["data"], facts["seed"], facts["version"]) == (["streets"], 3, "0.1.0")
    assert facts["values"] > 9_000


def test_thresholds_are_said() -> None:
    best = {"overall": 0.43, "classes": {"cat": 0.51, "dog": 0.4}, "by": "F1 at IoU 0.5"}
    head = {"best_thresholds": best, "thresholds": {"1e-3": 0.3512}, "threshold": [0.5, 0.4]}
    assert threshold_lines(head) == [
        "0.43, measured: F1 at IoU 0.5 (cat 0.51, dog 0.40)",
        "similarity 0.351 at a false accept rate of 1e-3",
        "0.50, 0.40 decides in this file",
    ]
    assert threshold_lines({}) == []
    with pytest.raises(ValueError, match="info: expected thresholds as metrics store them"):
        threshold_lines({"best_thresholds": [1]})


def test_many_classes_are_counted(artifact: Path) -> None:
    names = [f"c{i}" for i in range(80)]
    assert info._classes(names, None).endswith("19 c19, ... 80 in all")


@pytest.mark.parametrize("words", [[], ["a", "b"]])
def test_one_file_is_asked_for(words: list[str]) -> None:
    with pytest.raises(UsageError, match=f"expected PATH, got {' '.join(words) or 'nothing'};"):
        info.main(words)


def test_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match="expected an existing file or folder, got nowhere.ckpt"):
        info.main(["nowhere.ckpt"])


@pytest.mark.parametrize("inside", ["", "checkpoints"])
@pytest.mark.parametrize(
    "command", ["info", "info checkpoint", "predict", "export", "eval", "train"]
)
def test_every_command_takes_a_run_folder(
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    inside: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(artifact.parent)
    run = artifact.parent / "run"
    (run / "checkpoints").mkdir(parents=True)
    file = artifact.rename(run / "checkpoints" / "last.ckpt")
    place = run / inside
    words = {
        "info": ["info", str(place)],
        "info checkpoint": ["info", f"checkpoint={place}"],
        # Each of these goes on to refuse something else than the folder.
        "predict": ["predict", f"checkpoint={place}", "output=out", "source=nothing*.png"],
        "export": ["export", f"checkpoint={place}", "output=a.txt", "size=[64,64]"],
        "eval": ["eval", f"checkpoint={place}"],
        "train": ["train", f"checkpoint={place}", "paths.run=x"],
    }[command]
    code = main(words)
    captured = capsys.readouterr()
    assert f"checkpoint: {file}" in captured.err
    assert code == (0 if "info" in command else 2)
    assert "expected an existing file" not in captured.err


def test_a_folder_without_checkpoints_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", f"checkpoint={tmp_path}", "source=a", "output=b"]) == 2
    assert "expected a file or a run folder with checkpoints/*.ckpt" in capsys.readouterr().err
