"""Mixup and CutMix: torchvision's numbers, any dimension, draws of the batch alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from densekit.data import CutMix, MixUp, RandomChoice
from densekit.data.transforms.mixing import cutmix, mixup
from densekit.types import check_batch

CLASSES = 5


def make_batch(sides: tuple[int, ...] = (12, 20), dtype: torch.dtype = torch.float32) -> Any:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 3, *sides), generator=generator).to(dtype)
    return {
        "image": image,
        "size": torch.tensor([list(sides)] * 4),
        "category": torch.tensor([0, 4, 2, 2]),
    }


def test_mixup_is_torchvision_s(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, theirs = make_batch(), v2.MixUp(alpha=0.2, num_classes=CLASSES)
    monkeypatch.setattr(theirs, "make_params", lambda inputs: {"lam": 0.3})
    image, category = theirs(batch["image"], batch["category"])
    found = mixup(batch, 0.3, CLASSES)
    assert torch.equal(found["image"], image)
    assert torch.equal(found["category"], category)


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_is_torchvision_s(seed: int) -> None:
    batch, theirs = make_batch(), v2.CutMix(alpha=1.0, num_classes=CLASSES)
    torch.manual_seed(seed)
    image, category = theirs(batch["image"], batch["category"])
    torch.manual_seed(seed)
    share = float(theirs._dist.sample(()))
    x, y = int(torch.randint(20, (1,))), int(torch.randint(12, (1,)))
    found = cutmix(batch, share, [y, x], CLASSES)
    assert torch.equal(found["image"], image)
    torch.testing.assert_close(found["category"], category)


@pytest.mark.parametrize("sides", [(30,), (12, 20), (6, 8, 10)])
@pytest.mark.parametrize("change", [MixUp(), CutMix(), RandomChoice({"a": MixUp(), "b": CutMix()})])
def test_shares_sum_to_one_in_any_dimension(change: Any, sides: tuple[int, ...]) -> None:
    batch = make_batch(sides)
    given = {key: value.clone() for key, value in batch.items()}
    for seed in range(5):
        found = change(batch, CLASSES, np.random.default_rng(seed))
        check_batch(found)
        torch.testing.assert_close(found["category"].sum(1), torch.ones(4))
    assert all(torch.equal(batch[key], value) for key, value in given.items())


def test_shares_of_cutmix_are_shares_of_pixels() -> None:
    batch = make_batch()
    batch["image"] = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 12, 20).contiguous()
    found = cutmix(batch, 0.4, [1, 19], CLASSES)  # cut at the border
    own = (found["image"][1, 0] == 1).float().mean()
    assert 0.5 < own < 1
    torch.testing.assert_close(found["category"][1, 4], own)


def test_eight_bits_stay_eight_bits() -> None:
    batch = make_batch(dtype=torch.uint8)
    found = mixup(batch, 0.3, CLASSES)["image"]
    exact = mixup(make_batch(), 0.3, CLASSES)["image"]
    assert found.dtype == torch.uint8
    assert (found - exact).abs().max() <= 0.5


def test_shares_and_labels_are_mixed_too() -> None:
    batch = make_batch()
    batch["category"] = torch.eye(CLASSES)[:4]
    found = mixup(batch, 0.75, CLASSES)["category"]
    assert found[1].tolist() == [0.25, 0.75, 0, 0, 0]


def test_draws_are_functions_of_the_generator() -> None:
    batch, change = make_batch(), RandomChoice({"a": MixUp(), "b": CutMix()})
    first, again, other = (
        change(batch, CLASSES, np.random.default_rng(seed))["image"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_mixed_is_refused() -> None:
    batch = make_batch()
    with pytest.raises(ValueError, match="MixUp.alpha: expected more than 0, got 0"):
        MixUp(0)
    with pytest.raises(ValueError, match="CutMix: expected targets of a category only, got boxes"):
        cutmix({**batch, "boxes": torch.zeros(4, 1, 4)}, 0.5, [1, 1], CLASSES)
    batch["size"][1, 0] = 8
    with pytest.raises(ValueError, match="MixUp: expected images of one size, got"):
        mixup(batch, 0.5, CLASSES)
