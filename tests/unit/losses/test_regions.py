"""Dice, generalised Dice and Tversky against sums on paper."""

from __future__ import annotations

import math

import pytest
import torch

from densekit.losses import Dice, GeneralisedDice, Tversky
from densekit.losses.generalised_dice import size_weights
from tests.unit.losses.cases import case


def binary(probabilities, mask):
    """Logits (B, 1, P) of given probabilities, and a mask (B, P)."""
    prob = torch.tensor(probabilities, dtype=torch.float64)
    return prob.logit()[:, None], torch.tensor(mask, dtype=torch.uint8)


def near(value):
    return pytest.approx(value, abs=2e-5)  # the smoothing


def test_dice_by_hand():
    logits, mask = binary([[0.75, 0.25, 0.5]], [[1, 0, 255]])
    assert float(Dice()(logits, mask)) == near(1 - 1.5 / 2)
    assert float(Dice(squared=True)(logits, mask)) == near(1 - 1.5 / (0.625 + 1))


def test_dice_of_an_absent_class_is_counted_if_anything_is_predicted():
    prob = torch.tensor([[[0.75, 0.75], [0.25, 0.25]]], dtype=torch.float64)
    mask = torch.zeros(1, 2, dtype=torch.uint8)
    assert float(Dice()(prob.log(), mask)) == near((1 - 3 / 3.5 + 1) / 2)
    assert float(Dice(include_background=False)(prob.log(), mask)) == near(1)
    sure = torch.tensor([[[30.0, 30.0], [-30.0, -30.0]]])
    assert float(Dice(include_background=False)(sure, mask)) == near(0)


def test_dice_of_samples_and_of_the_batch():
    logits, mask = binary([[0.5, 0.5], [0.25, 0.75]], [[1, 1], [0, 0]])
    assert float(Dice()(logits, mask)) == near(((1 - 2 / 3) + 1) / 2)
    assert float(Dice(batch=True)(logits, mask)) == near(1 - 2 / 4)


def test_background_stays_where_a_mask_has_none():
    for layout in ("binary", "labels"):
        logits, mask = case(layout)
        both = [Dice(include_background=flag)(logits, mask) for flag in (True, False)]
        assert both[0] == both[1]


def test_generalised_dice_by_hand():
    prob = torch.tensor([[[0.5, 0.5, 0.75, 0.25], [0.5, 0.5, 0.25, 0.75]]], dtype=torch.float64)
    mask = torch.tensor([[0, 0, 0, 1]], dtype=torch.uint8)
    hits, both = [1.75, 0.75], [2.0 + 3, 2.0 + 1]
    wanted = 1 - 2 * (hits[0] / 9 + hits[1]) / (both[0] / 9 + both[1])
    assert float(GeneralisedDice()(prob.log(), mask)) == near(wanted)


def test_weights_of_sizes():
    size = torch.tensor([[10.0, 1000, 0], [0, 0, 0]])
    wanted = [[1, 1e-4, 1], [1, 1, 1]]
    torch.testing.assert_close(size_weights(size), torch.tensor(wanted))


def test_generalised_dice_does_not_depend_on_the_size_of_the_image():
    logits, mask = case("classes", (8, 8), batch=1, ignored=0)
    small = GeneralisedDice()(logits, mask)
    big = GeneralisedDice()(logits.repeat(1, 1, 60, 60), mask.repeat(1, 60, 60))
    torch.testing.assert_close(big, small, atol=2e-5, rtol=0)


def test_tversky_by_hand():
    logits, mask = binary([[0.75, 0.5, 0.25]], [[1, 0, 1]])
    hit, wrong, missed = 1.0, 0.5, 1.0
    plain = 1 - hit / (hit + 0.3 * wrong + 0.7 * missed)
    assert float(Tversky()(logits, mask)) == near(plain)
    assert float(Tversky(gamma=4 / 3)(logits, mask)) == near(plain**0.75)


def test_even_tversky_is_dice():
    logits, mask = case("classes")
    torch.testing.assert_close(
        Tversky(0.5, 0.5)(logits, mask), Dice()(logits, mask), atol=1e-5, rtol=0
    )


def test_focal_tversky_has_a_finite_slope_where_all_is_right():
    mask = torch.tensor([[1, 0, 1, 0]], dtype=torch.uint8)
    logits = torch.where(mask == 1, 60.0, -60.0)[:, None].requires_grad_()
    loss = Tversky(gamma=2)(logits, mask)
    loss.backward()
    assert math.isclose(float(loss.detach()), 0, abs_tol=1e-6)
    assert logits.grad.isfinite().all()
