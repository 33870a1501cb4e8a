"""`densekit plan` on small volumes: a recipe that runs as it is printed, and refusals."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from densekit.app.cli import main
from tests.unit.data.medical_files import write_nifti

SHAPE = (18, 20, 8)
QUIET = [
    *(
        "precision=32-true",
        "trainer.accelerator=cpu",
        "trainer.max_steps=2",
        "callbacks.pictures=null",
    ),
    *(
        "callbacks.progress=null",
        "trainer.enable_progress_bar=false",
        "trainer.limit_test_batches=1",
    ),
    *("trainer.enable_model_summary=false", "trainer.limit_val_batches=1", "callbacks.curves=null"),
]
ONE_SET = """
# @package _global_
data:
  liver:
    _target_: densekit.data.Source
    train: {_target_: densekit.data.MedicalVolumes, root: "${paths.data}"}
"""
PARTS = """
# @package _global_
vars:
  whole:
    _target_: densekit.data.MedicalVolumes
    root: ${paths.data}
    intensity: {kind: percentile, low: 5, high: 95}  # must not survive the plan's
  s: {_target_: densekit.data.SplitRule, every: 3, val_every: 3}
data:
  liver:
    _target_: densekit.data.Source
    heads: [segmentation]
    train: {_target_: densekit.data.Split, data: "${vars.whole}", split: train, splits: "${vars.s}"}
    val: {_target_: densekit.data.Split, data: "${vars.whole}", split: val, splits: "${vars.s}"}
    mean: [100]
    std: [30]
"""


def volumes(case: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CT with air around, PET in SUV, and a mask; by (x, y, z)."""
    rng = np.random.default_rng(case)
    mask = np.zeros(SHAPE, np.uint8)
    mask[6:12, 5:12, 2:6] = 1
    mask[12:15, 5:12, 2:6] = 2
    ct = np.where(mask, rng.normal(60, 20, SHAPE), -1000).astype(np.float32)
    pet = rng.gamma(1.0, 2.0, SHAPE).astype(np.float32)
    return ct, pet, mask


def decathlon(root: Path, cases: int) -> None:
    training = []
    for case in range(cases):
        _, pet, mask = volumes(case)
        pair = {key: f"./{key}sTr/case_{case:03d}.nii.gz" for key in ("image", "label")}
        write_nifti(root / pair["image"], pet, np.diag([1.0, 1.0, 4.0, 1.0]))
        write_nifti(root / pair["label"], mask, np.diag([1.0, 1.0, 4.0, 1.0]))
        training.append(pair)
    labels = {"0": "background", "1": "anterior", "2": "posterior"}
    content = {"modality": {"0": "MRI"}, "labels": labels, "training": training}
    (root / "dataset.json").write_text(json.dumps(content))


def nnunet(root: Path, cases: int) -> None:
    for case in range(cases):
        *channels, mask = volumes(case)
        for number, image in enumerate(channels):
            write_nifti(root / f"imagesTr/c{case}_{number:04d}.nii.gz", image, np.eye(4))
        write_nifti(root / f"labelsTr/c{case}.nii.gz", mask, np.eye(4))
    content = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "left lobe": 1, "right lobe": 2},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))


def pairs(root: Path, cases: int) -> None:
    for case in range(cases):
        ct, _, mask = volumes(case)
        write_nifti(root / f"images/c{case}.nii.gz", ct, np.eye(4))
        write_nifti(root / f"masks/c{case}.nii.gz", mask, np.eye(4))


def planned(root: Path, text: str, words: list[str]) -> tuple[dict, list[str]]:
    """The experiment that is written for a data file called `mine`, and the words to train it."""
    (root / "conf" / "data").mkdir(parents=True)
    (root / "conf" / "data" / "mine.yaml").write_text(text)
    file = root / "conf" / "experiment" / "sub" / "mine.yaml"
    assert main(["plan", "data=mine", f"output={file}", "memory=0.5", *words]) == 0
    content = file.read_text()
    (command,) = [line for line in content.splitlines() if line.startswith("# Command: ")]
    words = shlex.split(command.removeprefix("# Command: "))
    assert words[:3] == ["densekit", "train", "experiment=sub/mine"]
    return yaml.safe_load(content), words[1:]


def rules(plan: dict, split: str = "train") -> dict:
    rule: dict = plan["data"]["liver"][split]["intensity"]
    return rule


@pytest.mark.parametrize(
    ("write", "text", "more", "expected"),
    [
        (decathlon, PARTS, [], "val/segmentation/dice"),
        (nnunet, ONE_SET, [], None),
        (
            pairs,
            ONE_SET,
            ["++data.liver.train.labels={background: 0, lobe: 1, vessel: 2}"],
            None,
        ),
    ],
)
def test_a_plan_runs_as_it_is_printed(
    write: Callable[[Path, int], None],
    text: str,
    more: list[str],
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "some data", 6)
    words = [f"paths.data={tmp_path / 'some data'}", "backbone.width=8", *more]
    plan, command = planned(tmp_path, text, words)
    assert plan["callbacks"]["checkpoint"]["monitor"] == expected
    assert ("check_val_every_n_epoch" in plan["trainer"]) is (expected is not None)
    assert not (tmp_path / "runs").exists(), "a plan leaves nothing behind"
    assert main([*command, *QUIET]) == 0
    (run,) = (tmp_path / "runs" / "sub_mine").iterdir()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert any((tmp_path / "runs" / "cache" / "liver_planned").iterdir())
    steps = plan["data"]["liver"]["train_transform"]["steps"]["augment"]["steps"]
    assert ("RandFlip_x" in steps) is (write is not nnunet)  # whose classes are left and right
    if write is decathlon:
        assert plan["vars"]["whole"]["intensity"] == {"kind": "zscore"}
        assert plan["vars"]["whole"]["spacing"] == [4.0, 1.0, 1.0]
        assert plan["backbone"]["skip_downsampling"] == [2, 0, 0]
        assert steps["RandAffine"]["rotate_range"] == [0.26, 0.0, 0.0]
    elif write is nnunet:
        ct, pet = rules(plan)["rules"]
        assert (ct["kind"], pet["kind"]) == ("clip", "zscore")
        assert ct["low"] > -50
        assert ct["high"] < 200
    else:
        assert rules(plan)["kind"] == "clip"


@pytest.fixture
def hippocampus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that find volumes of the name that the group `data` knows."""
    monkeypatch.chdir(tmp_path)
    decathlon(tmp_path / "hippocampus", 4)
    return ["plan", "data=hippocampus", f"paths.data={tmp_path}", "cases=1"]


def test_a_file_that_is_there_stays(
    hippocampus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("mine")
    assert main([*hippocampus, "output=mine.yaml"]) == 2
    assert "output: expected a new file, got mine.yaml, which exists" in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == "mine"


def test_without_a_file_the_plan_says_where_it_belongs(
    hippocampus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*hippocampus, "memory=1"]) == 0
    printed = capsys.readouterr().out
    assert "1 inspected" in printed
    assert "# Save as: conf/experiment/hippocampus_planned.yaml" in printed
    assert "# Command: densekit train experiment=hippocampus_planned paths.data=" in printed


@pytest.mark.parametrize("file", ["my plan.yaml", "conf/experiment/mine.yml"])
def test_a_file_that_no_command_finds_says_where_it_belongs(
    file: str, hippocampus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*hippocampus, "memory=1", f"output={file}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "save as: conf/experiment/hippocampus_planned.yaml" in printed
    assert "train: densekit train experiment=hippocampus_planned" in printed


def test_of_an_experiment_the_data_alone_are_planned_for(
    hippocampus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment=hippocampus_unet3d", *hippocampus[2:], "backbone.width=8"]
    assert main(["plan", *words, "data.hippocampus.train.split=all"]) == 0
    printed = capsys.readouterr().out
    assert "4 training volumes" in printed
    assert "experiment=hippocampus_planned paths.data=" in printed
    assert "decoder_channels" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=place_scenes"], "heads: expected one of detection, got 'segmentation'"),
        (["data=scenes", "backbone.width=8", "memory=0.0001"], "memory: expected at least 0."),
        ([], "data: expected a data set, got nothing"),
        (["data=hippocampus", "memory=lots"], "memory: expected a number of at least 0"),
        (["data=hippocampus", "memory=0.01"], "memory: expected at least 0."),
        (
            ["data=hippocampus", "backbone=timm", "backbone.name=resnet18"],
            "backbone: expected a network with the arguments skip_downsampling, stem",
        ),
        (["data=hippocampus", "cases=0"], "cases: expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_planned(
    hippocampus: list[str],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", hippocampus[2], *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("head", ["faster_rcnn", "fcos"])
def test_a_plan_for_boxes_runs_as_it_is_printed(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["backbone.width=16", "neck.out_channels=16"]
    small = [f"data.scenes.{split}.length=8" for split in ("train", "val", "test")]
    file = tmp_path / "conf" / "experiment" / "tiny.yaml"
    command = ["plan", "data=scenes", f"head={head}", f"output={file}", "memory=0.5"]
    assert main([*command, *words, *small]) == 0
    printed = capsys.readouterr().out
    assert "8 training images, 8 inspected" in printed
    assert "share of objects that no anchor or point is" in printed
    plan = yaml.safe_load(file.read_text())
    assert plan["resize"]["min_size"] > 160  # for objects of some 10 pixels
    assert plan["data"]["scenes"]["train_transform"]["steps"]["resize"]
    (line,) = [row for row in file.read_text().splitlines() if row.startswith("# Command: ")]
    command = shlex.split(line.removeprefix("# Command: "))[1:]
    assert main([*command, *QUIET, "trainer.max_steps=1"]) == 0


def test_a_given_resize_rule_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["resize={min_size: 96, max_size: 96}", "backbone.width=16", "neck.out_channels=16"]
    small = ["data.scenes.train.length=4", "head=retinanet", "memory=0.5"]
    assert main(["plan", "data=scenes", *small, *words]) == 0
    printed = capsys.readouterr().out
    assert "resize: {min_size: 96, max_size: 96}" in printed
    assert "planned, IoU" in printed
