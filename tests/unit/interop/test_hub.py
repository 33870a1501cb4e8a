"""Models go to a hub and come back; the client is the real one, the hub a local server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision

from densekit.app.cli import main
from densekit.artifact import load_artifact
from densekit.interop import convert, hub
from tests.unit.interop.hub_server import Files, hub_server


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """What lies on the hub."""
    import huggingface_hub.constants as constants
    from huggingface_hub import hf_api

    with hub_server() as (address, stored):
        for name in ("ENDPOINT", "HF_HUB_CACHE"):
            monkeypatch.setattr(constants, name, str(tmp_path) if "CACHE" in name else address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(hf_api.api, "endpoint", address)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield stored


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a checkpoint and metrics."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=2)
    folder = tmp_path / "run"
    convert(model, ["cat", "dog"]).save(folder / "checkpoints" / "last.ckpt")
    (folder / "metrics.json").write_text(json.dumps({"val/classification/accuracy": 0.9}))
    return folder


def test_a_run_is_pushed_with_a_card_and_pulled(run: Path, files: Files, capsys) -> None:
    assert main(["convert", f"source={run}", "output=hub:me/model"]) == 0

    card = files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: densekit\n")
    assert "pipeline_tag: image-classification" in card
    assert "| val/classification/accuracy | 0.9000 |" in card
    assert "densekit predict checkpoint=hub:me/model" in card
    capsys.readouterr()
    assert main(["info", "hub:me/model", "json=true"]) == 0
    assert json.loads(capsys.readouterr().out)["heads"]["classification"]["names"] == ["cat", "dog"]
    ours = load_artifact(run / "checkpoints" / "last.ckpt")["state_dict"]
    theirs = load_artifact(hub.pull("hub:me/model"))["state_dict"]
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hub:me", "expected hub:OWNER/REPO or hub:OWNER/REPO@TAG, got hub:me"),
        ("hub:me/other", "hub:me/other: expected a repository with model.safetensors"),
        ("hub:me/model", "hub:me/model: expected a repository with model.safetensors"),
        ("hub:me/mo--del", "hub:me/mo--del: expected a name of the hub"),
    ],
)
def test_what_is_not_there_is_refused(source: str, message: str, files: Files) -> None:
    with pytest.raises(ValueError, match=message):
        hub.pull(source)


def test_without_a_network_it_is_one_sentence(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="hub:me/model: expected the hub to answer"):
        hub.pull("hub:me/model")
