"""An exported program answers like the model, together or head by head, and knows what it is."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from densekit.app.cli import main
from densekit.artifact import save_artifact
from densekit.backbones import ResNet
from densekit.data import SemanticScenes
from densekit.heads import FCN, FasterRCNN, UNet
from densekit.inference.export import program
from densekit.inference.export.base import Example, PredictionsByName
from densekit.inference.export.program import export_program
from densekit.model import DenseModel
from densekit.necks import FPN

NAMES = ["road", "car"]
HEADS = {
    "near": {"_target_": "densekit.heads.FCN", "num_classes": 2, "level": "c2", "aux_level": None},
    "whole": {"_target_": "densekit.heads.UNet", "num_classes": 2},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DenseModel]:
    torch.manual_seed(0)
    makers = {
        "near": partial(FCN, num_classes=2, level="c2", aux_level=None),
        "whole": partial(UNet, num_classes=2),
    }
    known = {"names": NAMES, "ids": [7, 26], "num_classes": 2}
    model = DenseModel(ResNet(18, width=8), makers, info={"heads": {n: known for n in makers}})
    backbone = {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8}
    config = {"backbone": backbone, "neck": None, "heads": HEADS}
    file = tmp_path_factory.mktemp("export") / "both.ckpt"
    save_artifact(file, model, yaml.safe_dump(config))
    return file, model.eval()


FRESH = """
import sys, torch
from densekit.app.cli import main
from densekit.artifact import model_from_artifact
from densekit.inference.export.base import PredictionsByName
checkpoint, file = sys.argv[1:]
assert main(["export", f"checkpoint={checkpoint}", f"output={file}", "size=[64,96]"]) == 0
model = model_from_artifact(checkpoint).eval()
image, size = torch.rand(1, 3, 64, 96) * 255, torch.tensor([[64, 80]])
program = torch.export.load(file).module()
for sides in ([64, 96], [32, 64]):  # what comes after an export works, of its size and of others
    image = torch.rand(1, 3, *sides) * 255
    size = torch.tensor([[sides[0], sides[1] - 10]])
    with torch.inference_mode():
        expected = PredictionsByName(model)(image, size)
    assert all(type(value) is torch.Tensor for value in expected.values())
    if sides == [64, 96]:
        for name, value in program(image, size).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)
batch = {
    "image": image, "size": size, "sample_valid": torch.ones(1, dtype=torch.bool),
    "boxes": torch.tensor([[[4.0, 4, 20, 20]]]), "labels": torch.zeros(1, 1, dtype=torch.long),
    "boxes_valid": torch.ones(1, 1, dtype=torch.bool), "key": torch.zeros(1, dtype=torch.long),
}
sum(model.train().loss(batch).values()).backward()
print("all of it worked")
"""


@pytest.mark.slow
def test_a_detector_is_exported_by_a_fresh_process(tmp_path: Path) -> None:
    """Fresh, because whatever has predicted before leaves what a trace would have to make."""
    known = {"names": NAMES, "ids": [7, 26], "num_classes": 2}
    model = DenseModel(
        ResNet(18, width=8),
        {"detection": partial(FasterRCNN, num_classes=2)},
        partial(FPN, out_channels=16),
        {"heads": {"detection": known}},
    )
    config = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8},
        "neck": {"_target_": "densekit.necks.FPN", "out_channels": 16},
        "heads": {"detection": {"_target_": "densekit.heads.FasterRCNN", "num_classes": 2}},
    }
    save_artifact(tmp_path / "m.ckpt", model, yaml.safe_dump(config))
    words = [sys.executable, "-c", FRESH, str(tmp_path / "m.ckpt"), str(tmp_path / "m.pt2")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "all of it worked" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("heads", [["near", "whole"], ["near"]])
def test_program_answers_like_the_model(
    saved: tuple[Path, DenseModel],
    heads: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, model = saved
    file = tmp_path / "model.pt2"
    words = [f"checkpoint={checkpoint}", f"output={file}", "size=[64,96]"]
    assert main(["export", *words, f"heads=[{','.join(heads)}]"]) == 0
    exported = torch.export.load(file)
    image, size = torch.rand(1, 3, 64, 96) * 255, torch.tensor([[64, 80]])
    with torch.no_grad():
        found = exported.module()(image, size)
        expected = PredictionsByName(model)(image, size)
    assert list(found) == [f"{head}/logits" for head in heads]
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)
    if heads == ["near"]:  # what only the other head read is gone
        assert not any("layer4" in name for name in exported.state_dict)
    capsys.readouterr()
    assert main(["info", str(file)]) == 0
    printed = capsys.readouterr().out
    for word in ("7 road, 26 car", "a program", "compared on noise, fp32", *heads):
        assert word in printed, word


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every export is of a model with one damaged weight."""

    def damaged(model: DenseModel, example: Example, file: Path, precision: str) -> None:
        other = copy.deepcopy(model)
        with torch.no_grad():
            for head in other.heads.values():
                list(head.parameters())[-1][1] += 100
        export_program(other, example, file, precision)

    monkeypatch.setattr(program, "FORMAT", replace(program.FORMAT, export=damaged))


@pytest.mark.usefixtures("damage")
@pytest.mark.parametrize("on", ["noise", "pictures"])
def test_a_damaged_file_is_refused(
    saved: tuple[Path, DenseModel], on: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.pt2"
    file.write_text("of before")
    words = [f"checkpoint={saved[0]}", f"output={file}", "size=[32,32]", "heads=[near]"]
    if on == "pictures":
        (tmp_path / "photos").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
        words.append(f"images={tmp_path / 'photos'}")
    assert main(["export", *words]) == 1
    message = capsys.readouterr().err
    assert {"noise": "near/logits", "pictures": "near/pixels of another class"}[on] in message
    assert f"{file} is not written" in message
    assert file.read_text() == "of before"
    assert list(tmp_path.glob(".partial*")) == []


@pytest.fixture(scope="module")
def of_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `data=semantic_scenes` whose mIoU is above 0, as it knows one class."""
    torch.manual_seed(0)
    known = SemanticScenes("test", 1).describe()
    make = partial(FCN, num_classes=known["num_classes"], level="c2", aux_level=None)
    info = {"heads": {"segmentation": known}}
    model = DenseModel(ResNet(18, width=8), {"segmentation": make}, info=info)
    with torch.no_grad():
        list(model.heads["segmentation"].parameters())[-1][0] += 10
    head = {**HEADS["near"], "num_classes": known["num_classes"]}
    backbone = {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8}
    config = {"backbone": backbone, "neck": None, "heads": {"segmentation": head}}
    file = tmp_path_factory.mktemp("scenes") / "scenes.ckpt"
    save_artifact(file, model, yaml.safe_dump(config))
    return file


def test_metrics_of_both_are_measured_and_stored(
    of_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.pt2"
    words = [f"checkpoint={of_scenes}", f"output={file}", "size=[160,160]", "batch=2", "limit=3"]
    assert main(["export", *words, "data=semantic_scenes", "data.scenes.num_workers=0"]) == 0
    capsys.readouterr()
    assert main(["info", str(file), "json=true"]) == 0
    parity = json.loads(capsys.readouterr().out)["parity"]
    assert parity["on"] == "scenes test, 3 images"
    metric, pixels = parity["measured"]
    assert metric["name"] == "segmentation/mIoU"
    assert metric["values"][0] == metric["values"][1] > 0
    assert pixels["compared"] == 3 * 160 * 160


@pytest.mark.usefixtures("damage")
def test_a_metric_that_moves_is_refused(
    of_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.pt2"
    words = [f"checkpoint={of_scenes}", f"output={file}", "size=[160,160]", "limit=1"]
    assert main(["export", *words, "data=semantic_scenes", "data.scenes.num_workers=0"]) == 1
    assert "segmentation/mIoU" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=m.zip", "size=[64,64]"], "output: expected a file that ends in .pt2 or"),
        (
            ["output=m.pt2", "size=[64,64]", "format=executorch"],
            "output: expected a file that ends in .pte, got m.pt2",
        ),
        (
            ["output=m.pte", "size=[64,64]", "dynamic=[size]"],
            "dynamic: expected nothing with format=executorch, got size",
        ),
        (
            ["output=m.pt2", "size=[64,64]", "precision=int8"],
            "precision: expected fp32 or bf16 with format=torch_export, got int8",
        ),
        (
            ["output=m.pt2", "size=[64,64]", "images=.", "split=val"],
            "images, data: expected one of the two, got both",
        ),
        (
            ["output=m.pte", "size=[64,64]", "resize=true"],
            "resize: expected false with format=executorch, whose files take images of one size",
        ),
        (
            ["output=m.pt2", "size=[64,64]", "resize=true", "batch=2"],
            "batch: expected 1 with resize=true",
        ),
        (
            ["output=m.pt2", "size=[64,64]", "resize=true", "dynamic=[batch,size]"],
            "dynamic: expected nothing with resize=true",
        ),
        (["output=m.pt2"], "size: expected [HEIGHT,WIDTH]"),
        (["output=m.pt2", "size=[64]"], "size: expected 2 sides of 1 or more, got [64]"),
        (["output=m.pt2", "size=[64,64]", "heads=[nere]"], "did you mean 'near'"),
    ],
)
def test_refuses(
    saved: tuple[Path, DenseModel],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", f"checkpoint={saved[0]}", *words]) == 2
    assert message in capsys.readouterr().err


def test_info_of_another_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.pt2"
    file.write_bytes(b"PK")
    assert main(["info", str(file)]) == 2
    assert "expected a file exported by densekit" in capsys.readouterr().err
