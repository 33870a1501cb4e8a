"""`engine=auto`: the fastest engine that is right."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from densekit import DenseModel
from densekit.inference.engine import Engine, build_engine
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.choose import Auto
from densekit.inference.engines.proof import EngineError
from densekit.types import Batch, Predictions
from tests.unit.inference.segmenter import tiny_segmenter

BATCH: Batch = {"image": torch.full((1, 1, 8, 8), 30.0), "size": torch.tensor([[8, 8]])}


class Timed:
    """The model, slowed down, and wrong by a factor."""

    precision = "fp32"

    def __init__(self, name: str, model: DenseModel, seconds: float, factor: float = 1.0) -> None:
        self.name, self.model, self.seconds, self.factor = name, model, seconds, factor

    def predict(self, batch: Batch, *_: object) -> dict[str, Predictions]:
        time.sleep(self.seconds)
        logits = self.model.predict(batch)["segmentation"]["logits"]
        return {"segmentation": {"logits": logits * self.factor}}


@pytest.fixture(scope="module")
def model() -> DenseModel:
    return tiny_segmenter()


def builders(model: DenseModel, built: list[str]) -> dict[str, Callable[[], Engine]]:
    def make(name: str, *settings: float) -> Callable[[], Engine]:
        def build() -> Engine:
            built.append(name)
            return Timed(name, model, *settings)

        return build

    def missing() -> Engine:
        raise ImportError("engine=openvino needs openvino: pip install 'densekit[export]'")

    return {
        "eager": make("eager", 0.05),
        "inductor": make("inductor", 0.01),
        "onnxruntime": make("onnxruntime", 0, 2.0),
        "openvino": missing,
    }


def test_the_fastest_that_is_right_is_taken_and_named(
    model: DenseModel, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Auto(model, "fp32", builders(model, []))
    assert engine.name == "auto"
    with caplog.at_level(logging.INFO, "densekit"), torch.inference_mode():
        found = engine.predict(BATCH)
        engine.predict(BATCH)
    torch.testing.assert_close(found, model.predict(BATCH))
    assert engine.name == "inductor"
    (line,) = caplog.messages
    assert line.startswith("engine=auto takes inductor: inductor 0.0")
    assert "onnxruntime not (heads.segmentation: expected logits within" in line
    assert "openvino not (engine=openvino needs openvino: pip install" in line


def test_the_choice_is_kept(model: DenseModel, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "a.engines", {}, b"secret")
    built: list[str] = []
    for _ in range(2):
        engine = Auto(model, "fp32", builders(model, built), cache)
        engine.predict(BATCH)
        assert engine.name == "inductor"
    assert built == ["eager", "inductor", "onnxruntime", "inductor"]


def test_without_any_that_is_right_there_is_an_error(model: DenseModel) -> None:
    wrong = {"eager": lambda: Timed("eager", model, 0, 2.0)}
    with pytest.raises(
        EngineError, match="engine=auto: expected an engine that works, got .*eager"
    ):
        Auto(model, "fp32", wrong).predict(BATCH)


def test_auto_is_built_by_name(model: DenseModel) -> None:
    engine = build_engine("auto", model, "fp16")
    assert engine.predict(BATCH).keys() == {"segmentation"}
    assert engine.name == "eager"  # the only one with this precision
