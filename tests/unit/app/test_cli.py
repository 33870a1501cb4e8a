"""The command line itself: help, version, wrong words, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from densekit import __version__
from densekit.app.cli import main
from densekit.app.usage import COMMANDS

GROUND_TRUTH = {
    "images": [{"id": 5, "width": 100, "height": 100, "file_name": "a.jpg"}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400}
        | {"iscrowd": 0}
    ],
}
DETECTIONS = [{"image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.9}]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command}" in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.count(f"densekit {command}") > 1


def test_help_of_train_lists_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    text = capsys.readouterr().out
    assert "quickstart" in text
    assert "resnet50" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"densekit {__version__}\n"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "optimzer.lr=1"], "Did you mean 'optimizer'"),
        (["train", "--confg"], "no such flag"),
        (["train", "--cfg", "hydra"], "--cfg: accepted is job"),
        (["eval"], "checkpoint=PATH is missing"),
        (["eval", "checkpoint=nothing.ckpt"], "no such file"),
        (["predict", "chekpoint=x"], "Did you mean 'checkpoint'"),
        (["predict", "checkpoint=nothing.ckpt"], "no such file"),
        (
            ["predict", f"checkpoint={__file__}", "threshold=high"],
            "threshold: expected a number of at least 0, got high",
        ),
        (["predict", f"checkpoint={__file__}", "device=gpu"], "device=gpu: accepted are auto, cpu"),
        (["predict", f"checkpoint={__file__}", "device=cuda:99"], "device=cuda:99: this machine"),
        (["predict", f"checkpoint={__file__}", f"source={__file__}"], "output=DIR is missing"),
        (
            ["predict", f"checkpoint={__file__}", f"source={__file__}", f"output={__file__}"],
            "File exists",
        ),
        (["train", "resume=nothing"], "no such file or folder"),
    ],
)
def test_wrong_words_end_with_2_and_a_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_config_is_printed_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--cfg", "job", "seed=5"]) == 0
    plain = capsys.readouterr().out
    assert "seed: 5" in plain
    assert "${data_info:num_classes}" in plain
    assert main(["train", "--cfg=job", "--resolve"]) == 0
    resolved = capsys.readouterr().out
    assert "num_classes: 5" in resolved
    assert "${" not in resolved
    assert list(tmp_path.iterdir()) == []


def test_failed_check_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "data=bccd", "paths.data=/no/such/folder"]) == 2
    assert main(["train", "callbacks.checkpoint.monitor=val/detecton/AP"]) == 2
    assert main(["train", "data.scenes.heads=[cells]"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_files_are_measured_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "größe (1)=["
    folder.mkdir()
    (folder / "gt.json").write_text(json.dumps(GROUND_TRUTH))
    (folder / "dt.json").write_text(json.dumps(DETECTIONS))
    words = [f"results={folder / 'dt.json'}", f"annotations={folder / 'gt.json'}"]
    assert main(["eval", *words, f"output={folder / 'out'}"]) == 0
    assert "AP50" in capsys.readouterr().out
    figures = json.loads((folder / "out" / "metrics.json").read_text())
    assert figures["AP"] == pytest.approx(1.0)
    assert main(["eval", *words, "iou_tpye=bbox"]) == 2


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> int:
        return int({}["a defect"])

    monkeypatch.setattr("densekit.app.predict.main", broken)
    with pytest.raises(KeyError):
        main(["predict"])
