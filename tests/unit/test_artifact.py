"""Checkpoints: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from densekit import DenseModel
from densekit.artifact import (
    BrokenCheckpointError,
    load_artifact,
    model_config,
    model_from_artifact,
    save_artifact,
)
from densekit.backbones import ResNet
from densekit.heads import FasterRCNN
from densekit.necks import FPN

INFO = {
    "heads": {"detection": {"names": ["a", "b"], "ids": [3, 7], "num_classes": 2}},
    "resize": {"min_size": 64, "max_size": 96},
}
CONFIG: dict[str, Any] = {
    "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "weights": "/no/such/file"},
    "neck": {"_target_": "densekit.necks.FPN", "_partial_": True, "out_channels": 16},
    "heads": {
        "detection": {
            "_target_": "densekit.heads.FasterRCNN",
            "_partial_": True,
            "num_classes": 2,
        }
    },
    "paths": {"run": "/somewhere"},
}


@pytest.fixture(scope="module")
def model() -> DenseModel:
    heads = {"detection": partial(FasterRCNN, num_classes=2)}
    return DenseModel(ResNet(depth=18), heads, partial(FPN, out_channels=16), INFO)


@pytest.fixture
def file(model: DenseModel, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_artifact(path, model, yaml.safe_dump(CONFIG))
    return path


def test_round_trip_without_pretrained_weights(model: DenseModel, file: Path) -> None:
    loaded = model_from_artifact(file)
    assert loaded.info == model.info
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not list(file.parent.glob("*.part"))


def test_lightning_checkpoints_are_read_too(model: DenseModel, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    extra = {"optimizer_states": [], "epoch": 3}
    content = {"state_dict": state, "config": yaml.safe_dump(CONFIG), "info": model.info}
    torch.save(content | extra, path)
    assert model_from_artifact(path).state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_truncated_file_says_so(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BrokenCheckpointError, match=r"model\.pt .*damaged"):
        load_artifact(file)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this code must not run",))


def test_objects_are_refused_and_never_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hostile.ckpt"
    torch.save({"state_dict": {}, "config": Hostile(), "info": {}}, path)
    with pytest.raises(ValueError, match="refused") as caught:
        load_artifact(path)
    assert not isinstance(caught.value, BrokenCheckpointError)
    assert "must not run" not in capsys.readouterr().out


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.ckpt"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="no checkpoint"):
        load_artifact(path)


def test_foreign_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"state_dict, config, info missing.*conv\.weight"):
        load_artifact(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.ckpt"):
        load_artifact(tmp_path / "nothing.ckpt")


def test_config_that_names_other_classes_is_refused(model: DenseModel, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    other = CONFIG | {"backbone": {"_target_": "subprocess.Popen", "args": "ls"}}
    save_artifact(path, model, yaml.safe_dump(other))
    with pytest.raises(ValueError, match=r"model\.pt.*backbone\._target_.*trust=\[subprocess\]"):
        model_from_artifact(path)


def test_weights_that_do_not_fit_name_the_file(model: DenseModel, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    other = CONFIG | {"neck": CONFIG["neck"] | {"out_channels": 8}}
    save_artifact(path, model, yaml.safe_dump(other))
    with pytest.raises(ValueError, match=r"model\.pt.*do not fit"):
        model_from_artifact(path)


def test_config_without_a_model() -> None:
    with pytest.raises(ValueError, match="backbone and heads"):
        model_config("just text")
