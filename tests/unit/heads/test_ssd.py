"""SSD: the levels that it adds, what its settings must be, one copy of the logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from densekit.heads import SSD
from densekit.types import FeatureSpec
from tests.unit.heads.one_stage_cases import LEVELS, features
from tests.unit.tiny import targets

SPECS = {f"c{n}": FeatureSpec(4 * n, (2**n, 2**n)) for n in range(3, 6)}


def head(**settings: Any) -> SSD:
    return SSD(SPECS, 3, **{"extra_channels": (8, 6, 6), **settings})


def test_levels_are_added_to_the_backbones() -> None:
    made = head()
    levels = made.levels(
        {
            "c3": torch.rand(1, 12, 9, 12),
            "c4": torch.rand(1, 16, 5, 6),
            "c5": torch.rand(1, 20, 3, 3),
        }
    )
    assert [tuple(x.shape[1:]) for x in levels[3:]] == [(8, 2, 2), (6, 1, 1), (6, 1, 1)]
    assert made.strides == tuple((n, n) for n in (8, 16, 32, 64, 128, 256))
    cells = [x.shape[2] * x.shape[3] for x in levels]
    assert len(made.boxes(levels)) == sum(
        n * boxes for n, boxes in zip(cells, (4, 6, 6, 6, 4, 4), strict=True)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": [10, 20]}, r"sizes: expected one per level and one more, 7, got \[10, 20\]"),
        ({"aspect_ratios": [[2]]}, r"aspect_ratios: expected one list per level, 6, got"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(**settings)


def test_one_float_copy_of_the_logits_is_kept_for_backward() -> None:
    made, levels = SSD(LEVELS, 6, levels=tuple(LEVELS), extra_channels=(), side=96), features(2)
    outputs = made.num_classes + 1
    logits, _ = made.dense(made.levels(levels))
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.is_floating_point() and x.shape[-1:] == (outputs,):
            kept[x.data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        made.loss(levels, targets([3, 2]))
    assert sum(kept.values()) == sum(x.numel() for x in logits)
