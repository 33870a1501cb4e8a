"""The table of engines, and a model whose `predict` is an engine's."""

from __future__ import annotations

import pytest
import torch

from densekit import DenseModel
from densekit.inference import SlidingWindow, WholeImage
from densekit.inference.engine import ENGINES, build_engine, with_engine
from densekit.types import Batch, Predictions
from tests.unit.tiny import tiny_detector


class Named:
    """Answers with the number of images that it was given."""

    name = "named"
    precision = "fp32"

    def predict(self, batch: Batch, *_: object) -> dict[str, Predictions]:
        return {
            "mask": {"logits": torch.full((len(batch["image"]), 1, *batch["image"].shape[2:]), 3)}
        }


@pytest.fixture(scope="module")
def model() -> DenseModel:
    return tiny_detector().eval()


def test_an_engine_takes_the_place_of_predict_in_a_copy(model: DenseModel) -> None:
    other = with_engine(model, Named())
    batch: Batch = {"image": torch.zeros(1, 3, 64, 96), "size": torch.tensor([[64, 96]])}
    assert WholeImage().predict(other, batch)["mask"]["logits"].unique() == 3
    found = SlidingWindow([32, 32]).predict(other, batch)["mask"]["logits"]
    assert found.shape == (1, 1, 64, 96)
    torch.testing.assert_close(found, torch.full_like(found, 3))
    assert set(model.predict(batch)) == {"detection"}
    assert other.backbone is model.backbone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("egar", "fp32", "cpu"),
            "engine: expected one of eager, .*auto, got 'egar'; did you mean 'ea",
        ),
        (("eager", "int8", "cpu"), "precision: expected fp32 or bf16 or fp16 with engine=eager, g"),
        (("eager", "fp8", "cpu"), "precision: expected .* got 'fp8'"),
        (
            ("eager", "fp32", "meta"),
            "device: expected cpu or .* with engine=eager precision=fp32, got 'meta'",
        ),
    ],
)
def test_what_does_not_exist_is_refused(
    model: DenseModel, words: tuple[str, str, str], message: str
) -> None:
    name, precision, device = words
    with pytest.raises(ValueError, match=message):
        build_engine(name, model, precision, device)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_has_float32_on_a_cpu(name: str) -> None:
    assert "fp32" in ENGINES[name].precisions
    assert "cpu" in ENGINES[name].devices
