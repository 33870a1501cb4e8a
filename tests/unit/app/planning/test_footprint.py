"""The estimate of a training step's memory against what torch's allocator really hands out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from densekit import DenseModel
from densekit.app.planning.footprint import GIB, training_memory
from densekit.backbones import resnet18
from densekit.heads import UNet
from densekit.losses import Dice, PixelCrossEntropy


def make(classes: int, **settings: Any) -> DenseModel:
    losses: dict[str, Any] = {"ce": PixelCrossEntropy(), "dice": Dice()}
    return DenseModel(
        resnet18(spatial_dims=3, in_channels=1, **settings),
        heads={"segmentation": partial(UNet, num_classes=classes, losses=losses)},
        info={"mean": [0.0], "std": [1.0]},
    )


def measured(model: DenseModel, patch: tuple[int, ...], batch: int) -> float:
    """GiB at the peak of the second step, weights and moments of Adam included."""
    optimizer = torch.optim.AdamW(model.train().parameters())
    images: Any = {
        "image": torch.randn(batch, 1, *patch),
        "size": torch.tensor([list(patch)] * batch),
        "sample_valid": torch.ones(batch, dtype=torch.bool),
        "mask": torch.zeros(batch, *patch, dtype=torch.uint8),
    }

    def step() -> None:
        optimizer.zero_grad()
        sum(model.loss(images, model.features(images)).values()).backward()
        optimizer.step()

    step()  # makes the moments
    optimizer.zero_grad()
    held = sum(parameter.numel() for parameter in model.parameters()) * 3 * 4
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    taken = torch.tensor([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return float(held + taken.cumsum(0).max()) / GIB


@pytest.mark.parametrize(
    ("settings", "patch", "batch"),
    [
        ({"stem": "full", "width": 8}, (24, 24, 24), 2),
        ({"stem": "half", "width": 8}, (48, 48, 32), 1),
        ({"stem": "full", "width": 8, "skip_downsampling": (2, 0, 0)}, (8, 32, 32), 3),
    ],
)
def test_the_estimate_is_no_less_than_the_peak_and_a_third_more_at_most(
    settings: dict[str, Any], patch: tuple[int, ...], batch: int
) -> None:
    once, each = training_memory(partial(make, 3, **settings), 1, patch)
    peak = measured(make(3, **settings), patch, batch)
    assert 0.97 < (once + batch * each) / peak < 1.36
