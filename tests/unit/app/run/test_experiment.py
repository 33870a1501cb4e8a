"""An experiment in Python is what a run of the same words begins with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densekit import compose
from tests.unit.app.small_run import SMALL_RUN


def test_sources_and_model_fit_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources, model, config = compose(SMALL_RUN)
    again = compose(SMALL_RUN).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    batch = next(iter(sources["scenes"].train_loader()))
    assert set(model.loss(batch)) == {"classification/ce"}
    assert config["heads"]["classification"]["num_classes"] == len(
        sources["scenes"].describe()["names"]
    )
    assert not list(tmp_path.iterdir())


def test_a_wrong_word_is_named() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.lrr"):
        compose(["optimizer.lrr=1"])
