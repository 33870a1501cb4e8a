"""`trainer.deterministic=true`: two runs of one command are equal bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from densekit.app.cli import main
from tests.unit.app.small_run import SMALL_RUN

DETECTION = [
    *(
        "experiment=quickstart",
        "precision=32-true",
        "trainer.accelerator=cpu",
        "trainer.max_steps=2",
    ),
    *("data.scenes.train.length=4", "data.scenes.val.length=2", "data.scenes.test=null"),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val")),
    *("data.scenes.batch_size=2", "neck.out_channels=32", "callbacks.pictures=null"),
]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
@pytest.mark.parametrize("words", [SMALL_RUN, DETECTION], ids=["classification", "detection"])
def test_two_runs_are_equal_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        assert main(["train", *words, "trainer.deterministic=true", f"run_name={name}"]) == 0
    one, two = (next((tmp_path / "runs" / name).iterdir()) for name in ("a", "b"))
    states = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two)
    ]
    first, second = (state["state_dict"] for state in states)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, two)]
    assert metrics[0] == metrics[1]
