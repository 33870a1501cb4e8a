"""Points: inside, central, in the range of their level, the smallest object, chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from densekit.ops import matching
from densekit.ops.point_matching import PointRule, match_points


def squares(*points: tuple[float, float, float]) -> Tensor:
    """Points x, y with their strides, as squares."""
    return torch.tensor([[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s in points])


def matched(boxes: list[list[float]], points: Tensor, rule: PointRule) -> list[int]:
    """Index of each point's object, -1 for none."""
    gt = torch.tensor([boxes])
    index, label = match_points(gt, torch.ones(1, len(boxes), dtype=torch.bool), points, rule)
    return torch.where(label == 1, index, -1)[0].tolist()


def test_points_near_the_centre() -> None:
    """The object is 40 x 8 around (30, 14); 12 px are 1.5 strides."""
    points = squares((30, 14, 8), (41, 14, 8), (42, 14, 8), (30, 17, 8), (30, 18, 8), (0, 0, 64))
    assert matched([[10, 10, 50, 18]], points, PointRule()) == [0, 0, -1, 0, -1, -1]
    assert matched([[10, 10, 50, 18]], points, PointRule(radius=3))[:3] == [0, 0, 0]


def test_each_level_has_a_range_of_sides() -> None:
    """The farthest side of a point decides: 64 and 128 px are the limits of strides 8 and 16."""
    points = squares((100, 100, 8), (100, 100, 16), (100, 100, 32), (100, 100, 64))
    found = [
        matched([[100 - side, 99, 100 + side, 101]], points, PointRule()).index(0)
        for side in (1, 63.9, 64.1, 127.9, 128.1, 255.9, 256.1, 9999)
    ]
    assert found == [0, 0, 1, 1, 2, 2, 3, 3]
    assert matched([[36, 99, 164, 101]], points, PointRule()) == [-1] * 4  # on a limit


def test_the_smallest_object_wins_and_of_equal_ones_the_first() -> None:
    points = squares((50, 50, 8), (50, 50, 99))
    large, small, same = [10, 10, 90, 90], [40, 40, 60, 60], [39, 42, 59, 62]
    assert matched([large, small, same], points, PointRule())[0] == 1
    assert matched([same, large, small], points, PointRule())[0] == 0


def test_chunks_and_empty_slots_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    corner = torch.rand(2, 9, 2) * 80
    gt = torch.cat([corner, corner + 4 + torch.rand(2, 9, 2) * 90], 2)
    valid = torch.rand(2, 9) > 0.3
    y, x = torch.meshgrid(torch.arange(0, 128, 8.0), torch.arange(0, 128, 8.0), indexing="ij")
    points = torch.cat([squares((0, 0, s)) + torch.stack([x, y, x, y], -1).view(-1, 4)
                        for s in (8, 16, 32)])  # fmt: skip
    index, label = match_points(gt, valid, points, PointRule())
    assert (label == 1).sum(1).min() > 10
    assert valid.gather(1, index)[label == 1].all()
    monkeypatch.setattr(matching, "CHUNK_ELEMENTS", 1)
    parts = match_points(gt, valid, points, PointRule())
    assert torch.equal(parts[1], label)
    assert torch.equal(parts[0][label == 1], index[label == 1])
