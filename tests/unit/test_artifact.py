"""Checkpoints: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from densekit import DenseModel, Predictor
from densekit.artifact import (
    BrokenCheckpointError,
    holds_artifact,
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
    assert [entry.name for entry in file.parent.iterdir()] == ["model.pt"]


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
    with pytest.raises(BrokenCheckpointError, match=r"model\.pt: expected .*damaged"):
        load_artifact(file)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this code must not run",))


def test_objects_are_refused_and_never_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hostile.ckpt"
    torch.save({"state_dict": {}, "config": Hostile(), "info": {}}, path)
    with pytest.raises(ValueError, match="expected only tensors, numbers and text") as caught:
        load_artifact(path)
    assert not isinstance(caught.value, BrokenCheckpointError)
    assert "must not run" not in capsys.readouterr().out


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.ckpt"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="expected a checkpoint, got a file of another kind"):
        load_artifact(path)


def test_foreign_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"without state_dict, config, info \(keys: conv\.weight"):
        load_artifact(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"info": ["names"]}, r"info: expected dict, got list"),
        ({"config": {"backbone": {}}}, r"config: expected str, got dict"),
        ({"state_dict": [1]}, r"state_dict: expected dict, got list"),
        (
            {"state_dict": {"a.weight": "text"}},
            r"state_dict\['a.weight'\]: expected Tensor, got str",
        ),
        ({"state_dict": {3: torch.zeros(1)}}, r"state_dict, the name 3: expected str, got int"),
        ({"info": {"mean": 3.0}}, r"info.mean: expected list or tuple, got float"),
        ({"info": {"std": ["a", "b", "c"]}}, r"info.std, an entry: expected int or float, got str"),
        ({"info": {"full_scale": "big"}}, r"info.full_scale: expected int or float, got str"),
        ({"info": {"resize": 800}}, r"info.resize: expected dict or NoneType, got int"),
        ({"info": {"heads": {"detection": 3}}}, r"info.heads.detection: expected dict, got int"),
    ],
)
def test_entries_of_another_type_are_refused_with_the_file(
    model: DenseModel, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "odd.ckpt"
    content = {"state_dict": model.state_dict(), "config": yaml.safe_dump(CONFIG), "info": INFO}
    torch.save(content | change, path)
    with pytest.raises(ValueError, match=rf"odd\.ckpt: {message}"):
        load_artifact(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "expected YAML, got:"),
        ("[1, 2]", r"expected the keys backbone and heads, got '\[1, 2\]'"),
        (
            yaml.safe_dump(CONFIG | {"backbone": None}),
            "backbone: expected a class and its settings, got 'None'",
        ),
        (yaml.safe_dump(CONFIG | {"backbone": {"depth": 18}}), "backbone: expected a class"),
        (yaml.safe_dump(CONFIG | {"heads": [1]}), r"heads: expected heads by name, got '\[1\]'"),
        (
            yaml.safe_dump(CONFIG | {"heads": {"a": "b"}}),
            r"heads\.a: expected a class and its settings, got 'b'",
        ),
        (
            yaml.safe_dump(CONFIG | {"neck": "fpn"}),
            "neck: expected a class and its settings, got 'fpn'",
        ),
        (yaml.safe_dump(CONFIG | {"neck": CONFIG["neck"] | {"bogus": 1}}), "bogus"),
        (yaml.safe_dump(CONFIG | {"backbone": CONFIG["backbone"] | {"depth": 19}}), "backbone"),
    ],
)
def test_a_config_that_describes_no_model_is_refused_with_the_file(
    model: DenseModel, tmp_path: Path, config: str, message: str
) -> None:
    path = tmp_path / "odd.ckpt"
    save_artifact(path, model, config)
    with pytest.raises(ValueError, match=rf"odd\.ckpt: .*{message}"):
        model_from_artifact(path)


def test_a_file_is_refused_before_a_model_is_built(model: DenseModel, tmp_path: Path) -> None:
    path = tmp_path / "odd.ckpt"
    save_artifact(path, model, "- a list")
    with pytest.raises(ValueError, match=r"odd\.ckpt: .*backbone and heads"):
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
    with pytest.raises(ValueError, match=r"model\.pt: expected weights that fit"):
        model_from_artifact(path)


def test_config_without_a_model() -> None:
    with pytest.raises(ValueError, match="backbone and heads"):
        model_config("just text")


def test_stored_configs_bring_no_weights_of_their_own() -> None:
    backbone = {"_target_": "x.Y", "weights": "/gone.pth", "pretrained": True, "name": "resnet18"}
    text = yaml.safe_dump({"backbone": backbone, "heads": {"a": {"_target_": "x.Head"}}})
    assert model_config(text)["backbone"] == {"_target_": "x.Y", "name": "resnet18"}


PAGE = b"<!DOCTYPE html>\n<html><body>404: Not Found</body></html>\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PAGE, "expected a checkpoint, got text: '<!DOCTYPE html>'"),
        (b"  hello, world", "got text: 'hello, world'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "got text: 'version https"),
        ("ce n'est pas un modèle".encode(), "got text"),
        (b"", "got a file of another kind or a damaged one"),
        (b"h\x00.", "got a file of another kind"),  # KeyError of a program of pickle
        (b"j1234.", "got text"),
        (b"\x88u.", "got a file of another kind"),  # IndexError
        (b"\xff" * 300, "got a file of another kind"),
        (b"PK\x03\x04", "got a truncated or damaged file"),
        (b"PK\x05\x06" + bytes(18), "got a file of another kind"),
        *((bytes([code]) * 5, "expected a checkpoint") for code in range(0, 256, 5)),
    ],
)
def test_what_is_no_checkpoint_has_one_line_with_its_name(
    content: bytes, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "page.ckpt"
    file.write_bytes(content)
    with pytest.raises(BrokenCheckpointError, match=message) as caught:
        load_artifact(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_truncation_is_named(model: DenseModel, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    save_artifact(path, model, yaml.safe_dump(CONFIG))
    whole = path.read_bytes()
    for share in range(1, 20):
        path.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(
            BrokenCheckpointError, match=r"model\.ckpt: .* got a truncated or damaged file"
        ):
            load_artifact(path)


@pytest.mark.parametrize(
    "inferer", ["whole", 1.5, {}, [1], {"_target_": "densekit.inference.SlidingWindow", "zz": 1}]
)
def test_an_inferer_that_is_none_names_the_file(
    inferer: Any, model: DenseModel, tmp_path: Path
) -> None:
    path = tmp_path / "odd.ckpt"
    save_artifact(path, model, yaml.safe_dump(CONFIG | {"inferer": inferer}))
    with pytest.raises(ValueError, match=r"odd\.ckpt: inferer: "):
        Predictor(path)


def test_weights_that_do_not_fit_are_one_line(model: DenseModel, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    save_artifact(path, model, yaml.safe_dump(CONFIG))
    content = torch.load(path, weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"fit its config, got: Missing key") as caught:
        model_from_artifact(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_a_pickle_of_arrays_is_not_read_as_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {}}, protocol=4))
    assert not holds_artifact(tmp_path / "a.pkl")
