"""densekit's own parts keep the contracts that plug-ins are held to, through the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from densekit.app.cli import main
from densekit.app.commands import check_head
from densekit.app.config.groups import options, own_conf
from densekit.app.errors import UsageError

RENDERED = (
    "scenes",
    "semantic_scenes",
    "category_scenes",
    "place_scenes",
    "panoptic_scenes",
    "shape_pictures",
)
STORED = {
    "bccd": "bccd",
    "camvid": "camvid",
    "coco_semantic_small": "coco_small",
    "coco_small": "coco_small",
    "hippocampus": "hippocampus",
    "isbi2012": "isbi2012",
    "orl": "faces_orl",
    "pennfudan": "pennfudan",
    "pennfudan_instances": "pennfudan",
    "splice": "splice",
    "ucr": "ucr",
}
"""Option of the group data to its folder below DENSEKIT_TEST_DATA."""
OF_USERS = (
    *("chase_db1", "coco", "coco_panoptic", "drive", "imagenet", "ms1mv3", "stare"),
    *("voc07", "voc0712", "voc12_segmentation", "voc12aug"),
    *("coco_folder", "id_mask_folder", "image_folder", "mask_folder", "voc_folder", "yolo_folder"),
)
"""Options for files that users bring."""
BOX_HEAD = "{_target_: densekit.heads.faster_rcnn.BoxHead, _partial_: true, hidden: [64, 64]}"
CASCADE = f"heads.detection.box_head.stage={BOX_HEAD}"
MASK_HEAD = "{_target_: densekit.heads.faster_rcnn.MaskHead, _partial_: true, convs: [32]}"
HEADS = {name: () for name in options("head")} | {
    "pan": ("backbone.output_stride=8",),
    "faster_rcnn": (f"heads.detection.box_head={BOX_HEAD}",),
    "cascade_rcnn": (CASCADE,),
    "mask_rcnn": (
        f"heads.detection.box_head={BOX_HEAD}",
        f"heads.detection.mask_head={MASK_HEAD}",
    ),
    "cascade_mask_rcnn": (CASCADE, f"heads.detection.mask_head={MASK_HEAD}"),
    "faster_rcnn_d2": ("heads.detection.box_head.hidden=[64,64]",),
    "smp_fpn": tuple(f"heads.segmentation.{of}_channels=32" for of in ("pyramid", "segmentation")),
    "smp_upernet": ("heads.segmentation.decoder_channels=32",),
    "unetplusplus": ("heads.segmentation.decoder_channels=[64,32,16,16,16]",),
    "upernet": ("heads.segmentation.channels=32",),
}
"""Option to further words: PAN needs 8 cells a side at c5; wide layers learn slowly on a CPU."""
DEEP = ("resnet152", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2")
"""Tested narrow and with as many blocks as ResNet-50; resnet101 is tested whole."""
SHORT = ("backbone.depth=50", "backbone.width=16")
BACKBONES = {
    **{name: SHORT if name in DEEP else () for name in options("backbone")},
    "timm": ("backbone.name=convnext_atto",),
}
METRICS = [
    n for n in options("metrics") if yaml.safe_load((own_conf() / f"metrics/{n}.yaml").open())
]


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.timeout(900)
@pytest.mark.parametrize("head", HEADS)
def test_head(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Each resets what torch.compile has cached; all share the server that forks the two processes.
    code = main(["check-head", f"head={head}", *HEADS[head]])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "two processes" in printed


@pytest.mark.slow
@pytest.mark.ddp
def test_head_in_a_fresh_process() -> None:
    command = [sys.executable, "-m", "densekit", "check-head", "head=fcn"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone(backbone: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", f"backbone={backbone}", *BACKBONES[backbone]])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("neck", [name for name in options("neck") if name != "none"])
def test_neck(neck: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"neck={neck}"]) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("metrics", METRICS)
def test_metrics(metrics: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"metrics={metrics}"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("data", RENDERED)
def test_rendered_data(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"data={data}"]) == 0, capsys.readouterr().out


@pytest.mark.real
@pytest.mark.parametrize("data", STORED)
def test_stored_data(
    data: str,
    folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [f"paths.data={folder(STORED[data]).parent}", f"paths.runs={tmp_path}"]
    assert main(["check", f"data={data}", *paths]) == 0, capsys.readouterr().out


def test_every_data_set_is_tested_or_needs_files_of_users() -> None:
    assert sorted([*RENDERED, *STORED, *OF_USERS]) == options("data")


def test_several_parts_of_one_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densekit.testing.head_checks.CHECKS", ())
    monkeypatch.setattr("densekit.testing.metric.CHECKS", ())
    monkeypatch.setattr("densekit.testing.data.CHECKS", ())
    monkeypatch.setattr("densekit.testing.transform.CHECKS", ())
    assert main(["check", "head=fcn", "data=semantic_scenes", "metrics=segmentation"]) == 0
    printed = capsys.readouterr().out
    for key in ("heads.segmentation", "data.scenes.val", "metrics.segmentation.iou"):
        assert key in printed
    assert main(["check-head", "head=fcn", "data=semantic_scenes"]) == 0
    assert "data.scenes" not in capsys.readouterr().out


def test_failure_is_printed_with_the_contract(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from densekit.testing import head_checks as checks

    def fails(subject: object) -> None:
        raise AssertionError("found [brackets]")

    broken = checks.Check("broken", "what is asked", fails)
    monkeypatch.setattr(checks, "CHECKS", (broken,))
    assert check_head.main(["head=fcn"]) == 1
    printed = capsys.readouterr().out
    for words in ("FAILED", "what is asked", "found [brackets]"):
        assert words in printed


@pytest.mark.parametrize("words", [[], ["trust=[os]"], ["neck=none"], ["metrics=default"]])
def test_a_part_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    assert "expected head=NAME, backbone=NAME" in capsys.readouterr().err


def test_a_head_is_asked_for() -> None:
    with pytest.raises(UsageError, match="head=NAME"):
        check_head.main(["backbone=resnet18"])


def test_local_head_needs_trust(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-head", "~head", "+heads.mine._target_=os.path.Path"]) == 2
    assert "trust=[os]" in capsys.readouterr().err
