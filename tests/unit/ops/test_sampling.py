"""Sampling draws the right numbers of rows, uniformly, and by its key alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from densekit.ops.matching import IGNORED, NEGATIVE, POSITIVE
from densekit.ops.sampling import sample_balanced


def labels(positive: int, negative: int, ignored: int) -> Tensor:
    parts = [(POSITIVE, positive), (NEGATIVE, negative), (IGNORED, ignored)]
    label = torch.cat([torch.full((count,), value, dtype=torch.int8) for value, count in parts])
    return label[torch.randperm(len(label))][None]


@pytest.mark.parametrize(
    ("positive", "negative", "fraction", "expected"),
    [
        (100, 100, 0.5, (8, 8)),
        (3, 100, 0.5, (3, 13)),
        (0, 100, 0.5, (0, 16)),
        (100, 100, 0.25, (4, 12)),
        (100, 2, 0.5, (8, 2)),
        (100, 0, 0.5, (8, 0)),
        (2, 3, 0.5, (2, 3)),
        (0, 0, 0.5, (0, 0)),
        (5, 100, 0.0, (0, 16)),
        (100, 5, 1.0, (16, 0)),
    ],
)
def test_counts(positive: int, negative: int, fraction: float, expected: tuple[int, int]) -> None:
    label = labels(positive, negative, 7)
    rows, valid = sample_balanced(label, torch.tensor([3]), 16, fraction)
    assert rows.shape == valid.shape == (1, 16)
    drawn = rows[valid]
    assert len(drawn.unique()) == len(drawn)
    found = label[0, drawn]
    assert tuple(int((found == value).sum()) for value in (POSITIVE, NEGATIVE)) == expected
    assert not (found == IGNORED).any()
    assert (found == found.sort(descending=True).values).all()  # positives first


def test_more_slots_than_candidates() -> None:
    rows, valid = sample_balanced(labels(2, 2, 0), torch.tensor([1]), 16, 0.5)
    assert rows.shape == (1, 16)
    assert valid.sum() == 4
    assert 0 <= rows.min() <= rows.max() < 4


def test_the_key_alone_decides() -> None:
    label = labels(50, 50, 0).expand(3, -1)
    rows, _ = sample_balanced(label, torch.tensor([1, 2, 1]), 16, 0.5)
    alone, _ = sample_balanced(label[:1], torch.tensor([1]), 16, 0.5)
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[:1], alone)
    assert not torch.equal(rows[0], rows[1])


def test_every_row_is_drawn_equally_often() -> None:
    label = labels(20, 40, 10)
    keys = torch.arange(4000)
    rows, valid = sample_balanced(label.expand(len(keys), -1), keys, 20, 0.25)
    share = torch.bincount(rows[valid], minlength=70) / len(keys)
    positive, negative = label[0] == POSITIVE, label[0] == NEGATIVE
    torch.testing.assert_close(share[positive], torch.full((20,), 5 / 20), atol=0.04, rtol=0)
    torch.testing.assert_close(share[negative], torch.full((40,), 15 / 40), atol=0.04, rtol=0)
    assert (share[label[0] == IGNORED] == 0).all()
