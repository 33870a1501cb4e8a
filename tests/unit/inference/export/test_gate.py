"""The gate passes a file that is its model, and refuses one with a damaged weight."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from densekit.backbones import ResNet
from densekit.heads import FCN
from densekit.inference import WholeImage
from densekit.inference.export.base import Example, PredictionsByName, Program, as_program
from densekit.inference.export.gate import Pair, joined, on_data, on_noise, on_other_noise
from densekit.inference.export.running import FileEngine
from densekit.model import DenseModel
from densekit.types import Batch

EXAMPLE = Example((64, 96), batch=2)


@pytest.fixture(scope="module")
def model() -> DenseModel:
    torch.manual_seed(0)
    heads = {"masks": partial(FCN, num_classes=3, level="c2", aux_level=None)}
    return DenseModel(ResNet(18, width=8), heads).eval()


def program_of(model: DenseModel) -> Program:
    return as_program(PredictionsByName(model))


def damaged(model: DenseModel) -> DenseModel:
    other = copy.deepcopy(model)
    with torch.no_grad():
        list(other.heads["masks"].parameters())[-1][0] += 1
    return other


class Counted:
    """A metric that is the share of pixels of class 0."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def update(self, results: object, truth: object) -> None:
        self.shares += [float((one["masks"]["mask"] == 0).mean()) for one in results]  # type: ignore[attr-defined]

    def compute(self) -> dict[str, float]:
        return {"masks/mIoU": float(np.mean(self.shares))}


def batches() -> list[Batch]:
    image = torch.rand((3, 3, 40, 60), generator=torch.Generator().manual_seed(1)) * 255
    return [
        {
            "image": image,
            "size": torch.tensor([[40, 60]] * 3),
            "sample_valid": torch.tensor([True, True, False]),
            "meta": [{"original_size": (40, 60)}] * 3,
            "truth": [{}] * 3,
        }
    ]


def test_a_file_equal_to_its_model_passes(model: DenseModel) -> None:
    pair = Pair.of(model, program_of(model), EXAMPLE, "test", "fp32")
    noise = on_noise(pair, EXAMPLE)
    data = on_data(pair, WholeImage(), batches(), (Counted(), Counted()), "some val")
    for parity in (noise, data):
        assert parity.measured
        assert not parity.beyond
        assert not parity.unproven
    assert data.on == "some val, 2 images"  # the repeated one is not counted
    assert joined([noise, data]).on == "noise; some val, 2 images"


def test_a_damaged_weight_is_refused(model: DenseModel) -> None:
    pair = Pair.of(model, program_of(damaged(model)), EXAMPLE, "test", "fp32")
    assert on_noise(pair, EXAMPLE).beyond
    parity = on_data(pair, WholeImage(), batches(), (Counted(), Counted()), "some val")
    assert [one.name for one in parity.beyond] == ["masks/mIoU", "masks/pixels of another class"]


def test_sides_that_a_program_is_wrong_for(model: DenseModel) -> None:
    """Of dynamic sides in name, of those it was traced with in truth."""
    example, fails = Example((64, 96), 1, ("size",)), False

    def program(image: NDArray[np.float32], size: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        traced = image.shape[2:] == example.sides
        if fails and not traced:
            raise RuntimeError("indices out of bounds\nat a node")
        return program_of(model if traced else damaged(model))(image, size)

    pair = Pair.of(model, program, example, "test", "fp32")
    assert not on_noise(pair, example).beyond
    parity = on_other_noise(pair, example)
    assert parity.on == "noise of 97x129"
    assert parity.beyond
    fails = True
    with pytest.raises(ValueError, match=r"dynamic: expected .* fails with 97x129 \(indices out"):
        on_other_noise(pair, example)


def test_images_are_padded_to_the_shapes_of_the_file(model: DenseModel) -> None:
    """Three images in calls of two, padded at the end; what comes back has the images' sides."""
    calls = []

    def program(image: np.ndarray, size: np.ndarray) -> dict[str, np.ndarray]:
        calls.append((image.shape, size.tolist()))
        return program_of(model)(image, size)

    engine = FileEngine(model, program, EXAMPLE, "test", "fp32")
    (batch,) = batches()
    found = engine.predict(batch)["masks"]["logits"]
    assert calls == [((2, 3, 64, 96), [[40, 60]] * 2)] * 2
    padded = torch.zeros(3, 3, 64, 96)
    padded[:, :, :40, :60] = batch["image"]
    with torch.no_grad():
        whole = model.predict({**batch, "image": padded})["masks"]["logits"]
    torch.testing.assert_close(found, whole[:, :, : found.shape[2], : found.shape[3]])


def test_calls_may_return_different_numbers_of_rows(model: DenseModel) -> None:
    def program(image: NDArray[np.float32], size: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        rows = int(image[0, 0, 0, 0])  # what an eager detector finds
        valid, scores = np.ones((1, rows), bool), np.full((1, rows), 0.5, np.float32)
        return {"boxes/valid": valid, "boxes/scores": scores}

    engine = FileEngine(model, program, Example((40, 60)), "test", "fp32")
    image = torch.zeros(2, 3, 40, 60)
    image[:, 0, 0, 0] = torch.tensor([3.0, 1.0])
    found = engine.predict({"image": image, "size": torch.tensor([[40, 60]] * 2)})["boxes"]
    assert found["valid"].tolist() == [[True, True, True], [True, False, False]]
    assert found["scores"].tolist() == [[0.5, 0.5, 0.5], [0.5, 0, 0]]


def test_an_image_that_does_not_fit_is_refused(model: DenseModel) -> None:
    engine = FileEngine(model, program_of(model), Example((32, 96)), "test", "fp32")
    with pytest.raises(ValueError, match=r"size: expected sides .* \[32, 96\] for one of \[40, 60"):
        engine.predict(batches()[0])
