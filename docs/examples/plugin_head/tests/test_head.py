"""The head keeps densekit's contract, and its targets agree with the papers."""

from __future__ import annotations

from functools import partial

import torch
from acme_centernet.head import CenterNet
from acme_centernet.targets import OVERLAP, gaussians, radius

from densekit.testing import check_head


def test_contract() -> None:
    check_head(partial(CenterNet, num_classes=3), num_classes=3)


def test_radius_is_the_largest_that_keeps_the_overlap() -> None:
    sides = torch.tensor([[10.0, 10.0], [40.0, 8.0], [3.0, 30.0]])
    r = radius(sides)
    w, h = sides.T
    shifted = (w - r) * (h - r) / (2 * w * h - (w - r) * (h - r))
    smaller = (w - 2 * r) * (h - 2 * r) / (w * h)
    larger = w * h / ((w + 2 * r) * (h + 2 * r))
    worst = torch.stack((shifted, smaller, larger)).amin(0)
    torch.testing.assert_close(worst, torch.full_like(worst, OVERLAP))


def test_heatmap_is_one_at_centres_and_keeps_the_higher_peak() -> None:
    boxes = torch.tensor([[[2.0, 2.0, 6.0, 6.0], [8.0, 2.0, 12.0, 6.0], [0.0, 0.0, 0.0, 0.0]]])
    labels, valid = torch.tensor([[1, 1, 0]]), torch.tensor([[True, True, False]])
    heatmap = gaussians(boxes, labels, valid, torch.zeros(1, 2, 8, 16))
    assert heatmap[0, 1, 4, 4] == heatmap[0, 1, 4, 10] == 1
    assert (heatmap == 1).sum() == 2
    assert heatmap[0, 1, 4, 5] > heatmap[0, 1, 4, 7] > 0
    assert not heatmap[0, 0].any()  # of a slot that is padding
