from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from densekit.app.commands import benchmark
from densekit.app.errors import UsageError
from densekit.app.studies.benchmark import detectors, machine, segmenters, timing
from densekit.app.studies.benchmark.pair import Pair
from densekit.artifact import save_artifact
from densekit.backbones import ResNet
from densekit.heads import Classification
from densekit.model import DenseModel

SMALL = ["size=[64,96]", "batch=2", "rounds=1"]


@pytest.fixture(autouse=True)
def _short_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of few pixels for the machine's peak: seconds per command otherwise."""
    monkeypatch.setattr(machine, "SIDE", 10)


def rows_of(arguments: list[str], folder: Path) -> list[dict[str, Any]]:
    file = folder / "results.json"
    assert benchmark.main([*arguments, f"output={file}"]) == 0
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return rows


@pytest.mark.parametrize(
    ("work", "step", "peer"),
    [
        ("faster_rcnn", "predict", "torchvision"),
        pytest.param("mask_rcnn", "predict", "torchvision", marks=pytest.mark.slow),
        ("unet", "predict", "smp"),
        pytest.param("retinanet", "train", "torchvision", marks=pytest.mark.slow),
        pytest.param("fcos", "predict", "torchvision", marks=pytest.mark.slow),
        pytest.param("faster_rcnn", "train", "torchvision", marks=pytest.mark.slow),
        pytest.param("deeplabv3plus", "train", "smp", marks=pytest.mark.slow),
    ],
)
def test_rows_of_a_network(work: str, step: str, peer: str, tmp_path: Path) -> None:
    rows = rows_of([f"work={work}", f"step={step}", *SMALL, "precision=fp32"], tmp_path)
    assert [row["who"] for row in rows] == [peer, "densekit"]
    assert rows[0]["speedup"] == 1.0
    # torchvision's boxes have a row for the background
    assert rows[0]["parameters"] == pytest.approx(rows[1]["parameters"], rel=1e-3)
    assert all(row["flops"] > 1e8 and row["seconds"] > 0 and not row["reason"] for row in rows)
    assert rows[1]["agreement"] == (1.0 if step == "predict" else None)


@pytest.mark.parametrize(
    ("arguments", "peer"),
    [
        pytest.param(
            ["work=sliding_window", "size=[64,96]", "precision=fp32"],
            "monai",
            marks=pytest.mark.slow,
        ),
        (["work=arcface", "batch=8", "classes=20"], "pytorch-metric-learning"),
        (["work=cosface", "batch=8", "classes=20"], "pytorch-metric-learning"),
        (["work=coco_evaluation", "batch=4", "classes=3"], "pycocotools"),
    ],
)
def test_rows_of_the_other_works(arguments: list[str], peer: str, tmp_path: Path) -> None:
    rows = rows_of([*arguments, "rounds=1"], tmp_path)
    assert [row["who"] for row in rows[:2]] == [peer, "densekit"]
    assert all(row["seconds"] > 0 for row in rows)


def test_what_an_engine_cannot_do_is_a_row_with_its_reason(tmp_path: Path) -> None:
    wanted = ["engine=[eager,openvino]", "precision=int8"]
    rows = rows_of(["work=unet", *SMALL, *wanted], tmp_path)
    assert [(row["who"], row["engine"]) for row in rows] == [
        ("densekit", "eager"),
        ("densekit", "openvino"),
    ]
    assert all(row["seconds"] is None and row["reason"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["train", "predict"])
def test_an_experiment_with_the_weights_of_ours_in_torchvision(step: str, tmp_path: Path) -> None:
    small = ["data.scenes.batch_size=2", "precision=fp32", "rounds=1", f"step={step}"]
    rows = rows_of(["experiment=quickstart", *small], tmp_path)
    assert [row["who"] for row in rows] == ["torchvision", "densekit"]
    assert all(row["seconds"] > 0 for row in rows)


def test_a_checkpoint_without_a_peer(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    model = DenseModel(ResNet(18, width=8), {"kind": partial(Classification, num_classes=3)})
    nodes = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8},
        "heads": {
            "kind": {
                "_target_": "densekit.heads.Classification",
                "_partial_": True,
                "num_classes": 3,
            }
        },
    }
    save_artifact(file, model, yaml.safe_dump({**nodes, "neck": None}))
    (row,) = rows_of([f"checkpoint={file}", "size=[64,64]", "precision=fp32", "rounds=1"], tmp_path)
    assert (row["who"], row["agreement"]) == ("densekit", 1.0)


def test_a_report_in_markdown_and_a_chart(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("results.md", "chart.png")]
    arguments = ["work=cosface", "batch=8", "classes=20", "rounds=1"]
    assert benchmark.main([*arguments, f"output={files[0]}", f"chart={files[1]}"]) == 0
    lines = files[0].read_text().splitlines()
    assert "densekit benchmark work=cosface batch=8" in lines[1]
    assert [line for line in lines if line.startswith("| densekit/eager/fp32 |")]
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_nothing_is_timed_when_the_losses_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    make = detectors.detector_pair

    def broken(*arguments: Any, **settings: Any) -> Pair:
        pair: Any = make(*arguments, **settings)
        pair.ours.heads["detection"].rpn.logits.bias.data += 0.1
        return pair

    monkeypatch.setattr(detectors, "detector_pair", broken)
    monkeypatch.setattr(timing, "interleaved", lambda *_: pytest.fail("the clock started"))
    with pytest.raises(RuntimeError, match="losses: expected the peer's"):
        benchmark.main(["size=[64,96]", "batch=1"])


def test_nothing_is_timed_when_the_logits_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    make = segmenters.segmenter_pair

    def broken(*arguments: Any, **settings: Any) -> Pair:
        pair = make(*arguments, **settings)
        for norm in pair.ours.backbone.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean += 0.1  # read by predictions, not by losses
        return pair

    monkeypatch.setattr(segmenters, "segmenter_pair", broken)
    monkeypatch.setattr(timing, "interleaved", lambda *_: pytest.fail("the clock started"))
    with pytest.raises(RuntimeError, match="logits: expected at most"):
        benchmark.main(["work=unet", "size=[64,96]", "batch=1"])


@pytest.mark.parametrize(
    "argument",
    [
        *("work=unett", "work=unet size=[320,450]", "work=unet classes=1"),
        *("step=fly", "precision=int3", "rouns=2", "size=320", "size=[320,a]", "engine=tpu"),
        *("rounds=0", "rounds=many", "batch=true", "classes=0", "depth=99", "device=gpu"),
        *("device=cuda:99", "output=results.txt", "chart=FOLDER/chart.svg"),
        *(
            "work=arcface depth=50",
            "work=coco_evaluation engine=eager",
            "work=cosface precision=bf16",
        ),
        "experiment=quickstart work=unet",
        "experiment=quickstart classes=4",
        "experiment=quickstart size=[64,64]",
        "experiment=quickstart step=predict batch=2",
        "checkpoint=nowhere.ckpt size=[64,64] step=train",
        "size=[64,64] checkpoint=nowhere.ckpt",
    ],
)
def test_wrong_options_are_refused(argument: str) -> None:
    key = argument.split()[-1].partition("=")[0]
    with pytest.raises(UsageError, match=key):
        benchmark.main(argument.split())
