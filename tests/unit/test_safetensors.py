"""A checkpoint as safetensors holds what the .ckpt holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from densekit._safetensors import _checksum
from densekit.app.cli import main
from densekit.artifact import (
    BrokenCheckpointError,
    load_artifact,
    model_from_artifact,
    write_artifact,
)
from densekit.interop import convert
from tests.unit.interop.peers import detector


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("run") / "model.ckpt"
    convert(detector().state_dict(), ["a", "b", "c"]).save(file)
    return file


def test_the_command_writes_an_equal_file(checkpoint: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "model.safetensors"

    assert main(["convert", f"source={checkpoint}", f"output={file}"]) == 0

    before, after = load_artifact(checkpoint), load_artifact(file)
    assert (after["config"], after["info"]) == (before["config"], before["info"])
    assert all(torch.equal(after["state_dict"][k], v) for k, v in before["state_dict"].items())
    assert file.stat().st_mode == checkpoint.stat().st_mode
    assert list(model_from_artifact(file).heads) == ["detection"]
    assert main(["info", str(file)]) == 0
    back = tmp_path / "back.ckpt"
    assert main(["convert", f"source={file}", f"output={back}"]) == 0
    assert load_artifact(back)["info"] == before["info"]


def test_shared_and_reordered_tensors_and_plain_values(tmp_path: Path) -> None:
    one = torch.rand(2, 3)
    state = {"a": one, "b": one, "c": one.T, "d._extra_state": {"step": 3}}
    config = "backbone: {_target_: x}\nheads: {}\n"

    write_artifact(tmp_path / "a.safetensors", state, config, {"heads": {}})

    found = load_artifact(tmp_path / "a.safetensors")["state_dict"]
    assert found["d._extra_state"] == {"step": 3}
    assert torch.equal(found["c"], one.T)


def test_what_is_no_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"conv1.weight": torch.rand(2)}, foreign)
    with pytest.raises(ValueError, match="one without config, info .* densekit convert source="):
        load_artifact(foreign)
    tensors, texts = {"a": torch.rand(2)}, {"densekit.config": "x", "densekit.info": "{"}
    save_file(tensors, foreign, texts)
    with pytest.raises(BrokenCheckpointError, match="differs from its checksum"):
        load_artifact(foreign)
    save_file(tensors, foreign, texts | {"densekit.crc32": _checksum(tensors, texts)})
    with pytest.raises(ValueError, match="expected JSON metadata"):
        load_artifact(foreign)
    foreign.write_bytes(foreign.read_bytes()[:40])
    with pytest.raises(BrokenCheckpointError, match="expected a safetensors file"):
        load_artifact(foreign)


def test_a_model_alone_cannot_be_resumed(tmp_path: Path, checkpoint: Path, capsys) -> None:
    file = tmp_path / "model.safetensors"
    write_artifact(file, **{k: v for k, v in load_artifact(checkpoint).items() if k != "reached"})
    assert main(["train", f"resume={file}"]) == 2
    assert "holds a model alone" in " ".join(capsys.readouterr().err.split())
