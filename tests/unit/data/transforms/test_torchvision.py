"""torchvision's transforms inside our pipeline: keyed draws, checked names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densekit.data import TorchvisionAugment


def sample(dtype: Any = np.uint8) -> Any:
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3)).astype(dtype)
    return {"image": image, "category": np.asarray(2), "index": 0, "meta": {}}


@pytest.mark.parametrize(
    "steps",
    [
        {"TrivialAugmentWide": {}},
        {"RandAugment": {"num_ops": 2, "magnitude": 9}},
        {"RandomErasing": {"p": 1.0, "value": [124, 116, 104]}},
        {"RandomResizedCrop": {"size": [16, 16]}, "RandomHorizontalFlip": None},
    ],
    ids=lambda steps: next(iter(steps)),
)
def test_draws_are_functions_of_the_generator(steps: Any) -> None:
    augment, given = TorchvisionAugment(steps), sample()
    before, state = given["image"].copy(), torch.get_rng_state()
    found = [augment(given, np.random.default_rng(seed))["image"] for seed in (*range(8), 0)]
    assert np.array_equal(found[0], found[8])
    assert any(not np.array_equal(found[0], other) for other in found[1:8])
    assert np.array_equal(given["image"], before)
    assert torch.equal(torch.get_rng_state(), state)
    assert {image.dtype for image in found} == {np.dtype(np.uint8)}
    assert found[0].shape == ((16, 16, 3) if "RandomResizedCrop" in steps else (24, 30, 3))


def test_erasing_writes_the_value() -> None:
    augment = TorchvisionAugment({"RandomErasing": {"p": 1.0, "value": [1, 2, 3]}})
    image = augment(sample(), np.random.default_rng(0))["image"]
    assert (image == [1, 2, 3]).all(axis=2).sum() > 10


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"TrivialAugment": {}},
            "got 'TrivialAugment'; did you mean 'TrivialAugmentWide'",
        ),
        ({"RandAugment": {"magnitud": 3}}, "RandAugment.magnitud: .*; did you mean"),
        ({"RandomErasing": {"scale": 3}}, "TorchvisionAugment.steps.RandomErasing: "),
    ],
)
def test_misspelt_steps_are_refused(steps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TorchvisionAugment(steps)


def test_targets_that_would_stay_behind_are_refused() -> None:
    augment = TorchvisionAugment({"RandomHorizontalFlip": {}})
    with pytest.raises(ValueError, match=r"no target that moves with the image, got \['mask'\]"):
        augment({**sample(), "mask": np.zeros((24, 30))}, np.random.default_rng(0))
