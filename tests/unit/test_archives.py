"""A changed bit anywhere in a checkpoint is noticed, and archives cannot unpack without limit."""

from __future__ import annotations

import logging
import random
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from densekit import DenseModel
from densekit._archives import ArchiveError, check_archive
from densekit.artifact import BrokenCheckpointError, load_artifact, save_artifact
from densekit.backbones import ResNet
from densekit.heads import UNet
from densekit.training import best_checkpoint, furthest_checkpoint
from densekit.training.checkpoint_io import AtomicCheckpointIO

CONFIG = yaml.safe_dump(
    {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 4},
        "heads": {"segmentation": {"_target_": "densekit.heads.UNet", "num_classes": 2}},
    }
)


@pytest.fixture(scope="module")
def model() -> DenseModel:
    heads = {"segmentation": partial(UNet, num_classes=2, decoder_channels=(8, 8, 4, 4, 4))}
    return DenseModel(ResNet(18, width=4), heads, None, {"heads": {"segmentation": {"a": 1}}})


def equal(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    plain = all(found[key] == expected[key] for key in ("config", "info"))
    found, expected = found["state_dict"], expected["state_dict"]
    return (
        plain
        and found.keys() == expected.keys()
        and all(torch.equal(value, expected[name]) for name, value in found.items())
    )


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_a_changed_bit_is_noticed_or_changes_nothing(
    suffix: str, model: DenseModel, tmp_path: Path
) -> None:
    file = tmp_path / f"model.{suffix}"
    save_artifact(file, model, CONFIG)
    whole, before = file.read_bytes(), load_artifact(file)
    chosen, said = random.Random(0), []
    # Half of the places lie in what is not weights: the names, the metadata, the directory.
    places = [chosen.randrange(len(whole)) for _ in range(100)]
    places += [chosen.randrange(-12_000, 12_000) % len(whole) for _ in range(100)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << chosen.randrange(8)
        file.write_bytes(changed)
        try:
            assert equal(load_artifact(file), before), f"byte {place}"
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 150
    assert all(str(file) in message for message in said)


def test_weights_with_a_changed_bit_are_not_resumed_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = {"epoch_000": 4, "last": 8}
    for name, step in steps.items():
        content = {"state_dict": {"w": torch.ones(10_000)}, "global_step": step, "epoch": step // 4}
        torch.save(content, tmp_path / f"{name}.ckpt")
    last = tmp_path / "last.ckpt"
    changed = bytearray(last.read_bytes())
    changed[len(changed) // 2] ^= 1
    last.write_bytes(changed)
    assert torch.load(last, weights_only=True)["global_step"] == 8  # torch does not notice
    with caplog.at_level(logging.WARNING):
        assert furthest_checkpoint(tmp_path).name == "epoch_000.ckpt"
        assert best_checkpoint(tmp_path).name == "epoch_000.ckpt"
    assert f"{last} cannot be read" in caplog.text
    with pytest.raises(BrokenCheckpointError, match=r"last\.ckpt: expected an intact file"):
        AtomicCheckpointIO().load_checkpoint(last, weights_only=True)


def test_archives_that_unpack_to_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(70 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(ArchiveError, match="far more memory"):
        check_archive(file)
    with pytest.raises(BrokenCheckpointError, match=r"bomb\.ckpt"):
        load_artifact(file)
