"""RetinaNet: the divisor of its losses, its anchors."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from densekit.heads import RetinaNet
from densekit.heads.anchors import label_anchors
from densekit.ops.matching import match
from densekit.types import Features
from tests.unit.heads.one_stage_cases import SIDES, features, one_stage
from tests.unit.tiny import targets


def head(**settings: Any) -> RetinaNet:
    return one_stage(RetinaNet, **settings)


def test_divisor_of_each_image_or_of_the_batch() -> None:
    """Images of 2 and 3 objects that are divided by their own or by all positive anchors."""
    batch, levels = targets([2, 3]), features(2)
    torch.manual_seed(1)
    own = head()
    torch.manual_seed(1)
    together = head(per_image=False)
    singles, counts = [], []
    for row in range(2):
        part: Any = {k: v[row : row + 1] for k, v in batch.items() if isinstance(v, Tensor)}
        one = {name: value[row : row + 1] for name, value in levels.items()}
        singles.append(own.loss(one, part)["cls"])
        counts.append(singles[-1] * 0 + _positives(own, one, part))
    mean = torch.stack(singles).mean()
    torch.testing.assert_close(own.loss(levels, batch)["cls"], mean)
    shares = torch.stack([one * count for one, count in zip(singles, counts, strict=True)])
    expected = shares.sum() / torch.stack(counts).sum()
    torch.testing.assert_close(together.loss(levels, batch)["cls"], expected)


def _positives(made: RetinaNet, levels: Features, batch: Any) -> int:
    read = [levels[name] for name in made.reads]
    anchors = made.grid(read, SIDES)
    _, label = label_anchors(anchors, batch, partial(match, boxes=anchors, rule=made.matching))
    return int((label == 1).sum())


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"sizes: expected one list per level \(p3, p4, p5, p6"):
        head(sizes=[[32], [64]])
