"""A trace of some steps."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
import torch

from densekit.training import Profile
from tests.unit.training.fakes import FakeData, fake_lit, trainer


def test_a_trace_of_some_steps_and_the_same_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "densekit")
    weights = []
    for active in (True, False):
        lit = fake_lit()
        folder = tmp_path / str(active)
        profile = Profile(folder, active=active, after=1, steps=2)
        trainer(tmp_path, callbacks=[profile], max_epochs=1).fit(lit, datamodule=FakeData())
        weights.append(lit.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not (tmp_path / "False").exists()
    with gzip.open(tmp_path / "True" / "trace_0.json.gz") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("forward") == 2
    assert {"loading", "backward", "optimizer", "aten::conv2d"} <= set(names)
    assert "aten::" in (tmp_path / "True" / "operators_0.txt").read_text()
    (line,) = [message for message in caplog.messages if message.startswith("profile: ")]
    assert "perfetto" in line


def test_a_run_that_is_too_short_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = trainer(tmp_path, callbacks=[Profile(tmp_path / "profile")], max_epochs=1)
    run.fit(fake_lit(), datamodule=FakeData())
    assert "expected more than 10 steps to begin with, got a run of 4" in caplog.text
    short = trainer(tmp_path, callbacks=[Profile(tmp_path / "profile", after=3)], max_epochs=1)
    short.fit(fake_lit(), datamodule=FakeData())
    assert (tmp_path / "profile" / "trace_0.json.gz").exists()


def test_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match=r"callbacks\.profile\.steps: expected at least 1, got 0"):
        Profile("x", steps=0)
