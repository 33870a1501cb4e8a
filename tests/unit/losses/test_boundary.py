"""Signed distances on paper, and the loss made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekit.losses import Boundary
from densekit.losses.boundary import signed_distance


def distances(mask, spacing=None):
    mask = np.asarray(mask)
    return signed_distance(mask == 1, mask != 255, spacing or (1.0,) * mask.ndim).tolist()


def test_distances_on_a_line():
    assert distances([0, 0, 1, 1, 1, 0]) == [2, 1, 0, -1, 0, 1]
    assert distances([0, 0, 1, 1, 1, 0], (2.0,)) == [4, 2, 0, -2, 0, 2]


def test_ignored_pixels_have_no_distance_and_make_no_contour():
    assert distances([0, 255, 1, 1]) == [2, 0, -1, -2]
    assert distances([255, 1, 1, 0]) == [0, -1, 0, 1]


def test_without_a_contour_there_is_no_distance():
    for mask in ([0, 0, 0], [1, 1, 255], [255, 255, 255]):
        assert distances(mask) == [0, 0, 0]


def test_distances_in_space_follow_the_spacing():
    mask = np.zeros((3, 3, 3), dtype=np.uint8)
    mask[0, 0, 0] = 1
    found = signed_distance(mask == 1, mask != 255, (3.0, 1.0, 2.0))
    assert found[0, 0, 0] == 0
    assert found[2, 1, 2] == pytest.approx((36 + 1 + 16) ** 0.5)


def test_loss_by_hand():
    prob = torch.tensor([[[0.5, 0.25, 0.75, 0.9, 0.1]]], dtype=torch.float64)
    mask = torch.tensor([[0, 0, 1, 1, 255]], dtype=torch.uint8)
    wanted = (0.5 * 2 + 0.25 * 1 + 0.75 * 0 + 0.9 * -1) / 4
    assert float(Boundary()(prob.logit(), mask)) == pytest.approx(wanted)


def test_background_is_left_out_unless_asked_for():
    logits = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    mask = torch.zeros(1, 6, 7, dtype=torch.uint8)
    mask[0, 2:4, 2:5] = 1
    foreground = (logits[:, 1:] - logits[:, :1], mask)  # a softmax of two is a sigmoid
    alone = Boundary()(*foreground)
    torch.testing.assert_close(Boundary()(logits, mask), alone)
    turned = Boundary()(-foreground[0], 1 - mask)
    both = Boundary(include_background=True)(logits, mask)
    torch.testing.assert_close(both, (alone + turned) / 2)


def test_wrong_number_of_spacings_is_refused():
    with pytest.raises(
        ValueError, match=r"Boundary\.spacing: expected one value per axis \(2\), got 3"
    ):
        Boundary(spacing=[1, 1, 1])(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4).byte())
