"""A run that starts from a converted model takes its architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densekit.app.config.overrides import parse
from densekit.app.errors import UsageError
from densekit.app.run.job import configuration, prepared
from densekit.app.run.start import initial_model
from densekit.data.synthetic.drawing import SHAPES
from densekit.interop import convert
from tests.unit.interop.peers import detector


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's detector on a ResNet-18 whose classes are those of the scenes."""
    file = tmp_path_factory.mktemp("converted") / "ours.ckpt"
    convert(detector(len(SHAPES)).state_dict(), list(SHAPES)).save(file)
    return file


def _configured(*words: str) -> Any:
    return configuration(parse(["experiment=quickstart", *words])).cfg


def test_parts_and_preprocessing_come_from_the_checkpoint(converted: Path) -> None:
    words = ["experiment=quickstart", f"checkpoint={converted}", "backbone.freeze_stages=0"]
    job = prepared(configuration(parse(words)))

    assert job.cfg["backbone"]["norm"] == "frozen"
    assert job.cfg["backbone"]["freeze_stages"] == 0
    assert job.cfg["heads"]["detection"]["num_classes"] == len(SHAPES)
    model = initial_model(job.cfg, job.sources)
    theirs = torch.load(converted, weights_only=True)["state_dict"]
    assert all(torch.equal(theirs[key], value) for key, value in model.state_dict().items())
    assert model.info["mean"][0] == pytest.approx(123.675)
    assert model.info["std"][0] == pytest.approx(58.395)


def test_a_backbone_of_the_command_line_stays(converted: Path) -> None:
    cfg = _configured("backbone=resnet50", f"checkpoint={converted}")
    assert cfg.backbone.depth == 50  # and is refused by the shapes of its tensors
    assert "norm" not in cfg.backbone


def test_a_head_of_another_class_is_refused_by_name(converted: Path) -> None:
    other = "heads.detection={_target_:densekit.heads.UNet,num_classes:3}"
    with pytest.raises(UsageError, match=r"heads.detection: expected densekit.heads.FasterRCNN"):
        _configured(f"checkpoint={converted}", other)
    cfg = _configured(f"checkpoint={converted}", other, "reset_head=[detection]")
    assert cfg.heads.detection._target_ == "densekit.heads.UNet"


def test_a_backbone_without_a_head_leaves_neck_and_heads(tmp_path: Path) -> None:
    body = detector().backbone.body.state_dict()
    convert({f"backbone.{key}": value for key, value in body.items()}).save(tmp_path / "b.ckpt")

    cfg, plain = _configured(f"checkpoint={tmp_path / 'b.ckpt'}"), _configured()

    assert cfg.backbone == {"_target_": "densekit.backbones.ResNet", "depth": 18}
    assert (cfg.neck, cfg.heads) == (plain.neck, plain.heads)
