"""What densekit sets of the trainer is refused by name; its switches and the callbacks agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar, TQDMProgressBar

from densekit.app.cli import main
from densekit.app.config.trainer import with_switches
from densekit.training import Checkpoint
from tests.unit.app.small_run import SMALL_RUN


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.logger=false", "trainer.logger: expected nothing.*got False; logger=none"),
        ("trainer.logger=null", "trainer.logger: expected nothing"),
        ("trainer.default_root_dir=here", "trainer.default_root_dir: .*got here; paths.runs="),
        ("trainer.callbacks=[]", r"trainer.callbacks: .*\+callbacks.NAME"),
        ("trainer.use_distributed_sampler=true", "trainer.use_distributed_sampler: "),
        ("paths.run=here", "paths.run: expected nothing"),
        ("trainer.accelerator=gpu", "^densekit: error: trainer: No supported gpu backend"),
        ("trainer.max_time=soon", "trainer: "),
    ],
)
def test_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL_RUN, word]) == 2
    assert re.search(message, capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "callback"),
    [
        ("enable_checkpointing", Checkpoint("folder")),
        ("enable_progress_bar", RichProgressBar()),
        ("enable_progress_bar", TQDMProgressBar()),
    ],
)
def test_a_switch_and_its_callbacks_agree(name: str, callback: object) -> None:
    rate = LearningRateMonitor()
    settings, kept = with_switches({name: False}, [callback, rate])
    assert kept == [rate]
    assert settings[name] is False
    settings, kept = with_switches({}, [callback, rate])
    assert kept == [callback, rate]
    assert settings[name] is True
    assert with_switches({"max_epochs": 3}, [rate])[0] == {  # Lightning adds none of its own
        "max_epochs": 3,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
