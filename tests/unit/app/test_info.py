"""`densekit info` on an artifact that was really written."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from densekit.app import info
from densekit.app.errors import UsageError
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
                "losses": {"ce": {"_target_": "densekit.losses.CrossEntropy"}},
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


def test_many_classes_are_counted(artifact: Path) -> None:
    names = [f"c{i}" for i in range(80)]
    assert info._classes(names, None).endswith("19 c19, ... 80 in all")


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_one_file_is_asked_for(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match=f"one checkpoint, found {len(arguments)}"):
        info.main(arguments)


def test_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.ckpt"):
        info.main(["nowhere.ckpt"])
