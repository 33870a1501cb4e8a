"""`densekit convert` writes a checkpoint and says what became of each tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from densekit.app.cli import main
from densekit.artifact import load_artifact
from tests.unit.interop.peers import saved


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = torchvision.models.resnet18(num_classes=2).state_dict()
    return saved(tmp_path / "theirs.pth", {"state_dict": state, "epoch": 1})


def test_it_writes_a_checkpoint_and_reports(classifier, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    output = tmp_path / "ours.ckpt"

    code = main(
        ["convert", f"source={classifier}", f"output={output}", f"names={tmp_path / 'names.txt'}"]
    )

    assert code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "source: ResNet-18 classifier in torchvision's layout" in text
    assert "mapped: 122 tensors" in text
    assert "assumed: mean and std: ImageNet's, of RGB images" in text
    assert "head: classification, 2 classes (cat, dog)" in text
    assert f"densekit predict checkpoint={output}" in text
    assert load_artifact(output)["info"]["heads"]["classification"]["names"] == ["cat", "dog"]
    assert main(["info", str(output)]) == 0


def test_the_backbone_of_a_pretraining_is_said_to_have_no_head(tmp_path, capsys):
    body = torchvision.models.resnet18().state_dict()
    state = {f"backbone.{k}": v for k, v in body.items()}
    source, output = saved(tmp_path / "simclr.pth", {"state_dict": state}), tmp_path / "b.ckpt"

    assert main(["convert", f"source={source}", f"output={output}"]) == 0

    text = " ".join(capsys.readouterr().out.split())
    assert "left: backbone.fc.weight and 1 more: a projection head of the pre-training" in text
    assert "a backbone; heads start afresh" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=a.ckpt"], "source: expected a file, a folder, torchvision:NAME or timm:NAME"),
        (
            ["source=theirs.pth", "output=a.bin"],
            "output: expected a file that ends in .ckpt or .safetensors",
        ),
        (["source=none.pth", "output=a.ckpt"], "none.pth: expected a file, got none there"),
        (["source=pip:a", "output=a.ckpt"], "start a run from them: backbone.weights=pip:a"),
        (["source=theirs.pth", "output=a.ckpt", "names=[a]"], "expected one per class (2), got 1"),
        (["source=torchvision:resnet49", "output=a.ckpt"], "did you mean 'resnet"),
        (["source=timm:resnet50.a9_in1k", "output=a.ckpt"], "did you mean 'resnet50."),
        (["source=timm:resnet50d.a1_in1k", "output=a.ckpt"], "got another stem"),
    ],
)
def test_what_cannot_be_converted_is_one_message(
    words, message, classifier, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a.ckpt").exists()


def test_a_file_of_another_library_is_refused_with_the_way_to_convert_it(classifier, capsys):
    assert main(["info", str(classifier)]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert f"densekit convert source={classifier} output=FILE.ckpt" in text
