"""A detector trains with mosaic and mixup from its configuration; both end, also when resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densekit.app.cli import main
from densekit.data import BoxMixUp, Mosaic

WORDS = [
    *("experiment=quickstart_yolox", "precision=32-true", "trainer.accelerator=cpu"),
    *("data.scenes.train.length=4", "data.scenes.val=null", "data.scenes.test=null"),
    *("data.scenes.train.size=[64,64]", "data.scenes.batch_size=2", "data.scenes.num_workers=0"),
    *("backbone.width=8", "neck.out_channels=8", "heads.detection.channels=8"),
    *("schedule=constant", "trainer.max_epochs=3", "data.scenes.mixed_epochs=2", "expected=null"),
    *(f"callbacks.{drawing}=null" for drawing in ("pictures", "curves", "confusion", "progress")),
    "data.scenes.train_transform={_target_: densekit.data.Chain, steps: {"
    "mosaic: {_target_: densekit.data.Mosaic, size: [64, 64]},"
    "mixup: {_target_: densekit.data.BoxMixUp}}}",
]


def trained(folder: Path, name: str, *words: str) -> Path:
    assert main(["train", *words, f"paths.runs={folder}", f"run_name={name}"]) == 0
    (run,) = (folder / name).iterdir()
    return run / "checkpoints" / "last.ckpt"


def test_mixing_ends_and_a_resumed_run_has_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[type] = []
    for kind in (Mosaic, BoxMixUp):

        def counted(self: Any, *given: Any, mix: Any = kind.mix) -> Any:
            calls.append(type(self))
            return mix(self, *given)

        monkeypatch.setattr(kind, "mix", counted)

    def mixed() -> list[int]:
        found = [calls.count(kind) for kind in (Mosaic, BoxMixUp)]
        calls.clear()
        return found

    whole = trained(tmp_path, "whole", *WORDS)
    assert mixed() == [8, 8]  # four images in two epochs of three
    first = trained(tmp_path, "first", *WORDS, "trainer.max_epochs=1")
    assert mixed() == [4, 4]
    resumed = trained(tmp_path, "resumed", f"resume={first}", "trainer.max_epochs=3")
    assert mixed() == [4, 4]
    expected, found = (torch.load(file, weights_only=True) for file in (whole, resumed))
    assert expected["global_step"] == found["global_step"] == 6
    for key, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][key], value), key
