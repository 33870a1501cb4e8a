"""Cross-entropy and focal loss: weights, smoothing, hard pixels, by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from densekit.losses import Focal, HardestFraction, HardPixels, PixelCrossEntropy
from tests.unit.losses.cases import LAYOUTS, case


def test_binary_weights_are_of_background_and_foreground():
    logits = torch.tensor([[[0.0, 2.0, -1.0]]])
    mask = torch.tensor([[1, 0, 255]], dtype=torch.uint8)
    loss = PixelCrossEntropy([1, 3])(logits, mask)
    wanted = (3 * math.log(2) + math.log(1 + math.exp(2))) / 4
    assert float(loss) == pytest.approx(wanted)


def test_weights_of_labels():
    logits, mask = case("labels")
    each = [PixelCrossEntropy()(logits[:, k : k + 1], mask[:, k : k + 1]) for k in range(3)]
    counts = [(mask[:, k] != 255).sum() for k in range(3)]
    weights = [1, 0, 5]
    total = sum(w * n * loss for w, n, loss in zip(weights, counts, each, strict=True))
    wanted = total / sum(w * n for w, n in zip(weights, counts, strict=True))
    torch.testing.assert_close(PixelCrossEntropy(weights)(logits, mask), wanted)


@pytest.mark.parametrize(("layout", "right"), [("classes", 3), ("binary", 2), ("labels", 3)])
def test_wrong_number_of_weights_is_refused(layout, right):
    logits, mask = case(layout)
    assert PixelCrossEntropy([1.0] * right)(logits, mask).isfinite()
    with pytest.raises(ValueError, match="class_weights: expected one value per class .*got 4"):
        PixelCrossEntropy([1.0] * 4)(logits, mask)


def test_weights_are_no_part_of_a_checkpoint():
    assert PixelCrossEntropy([1, 2]).state_dict() == {}


def test_binary_smoothing_is_that_of_two_classes():
    logits, mask = case("binary")
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    loss = PixelCrossEntropy(label_smoothing=0.2)
    torch.testing.assert_close(loss(logits, mask), loss(two, mask))


def test_a_binary_mask_equals_one_label():
    logits, mask = case("binary")
    torch.testing.assert_close(
        PixelCrossEntropy()(logits, mask), PixelCrossEntropy()(logits, mask[:, None])
    )


def test_hardest_fraction():
    loss = torch.tensor([[[1.0, 5, 3, 9, 2, 8]]])
    counted = torch.tensor([[[True, True, True, False, True, True]]])
    kept = HardestFraction(0.4)(loss, counted)  # 2 of 5
    assert kept.tolist() == [[[False, True, False, False, False, True]]]
    assert HardestFraction(1)(loss, counted).equal(counted)
    assert HardestFraction(0.01)(loss, counted).sum() == 1  # never none
    assert HardestFraction(0.5)(loss, counted & False).sum() == 0
    even = torch.ones(1, 1, 6)
    assert HardestFraction(0.5)(even, counted).equal(counted)


def test_hard_pixels():
    prob = torch.tensor([[[0.9, 0.6, 0.2, 0.1, 0.8, 0.5]]])
    counted = torch.tensor([[[True, True, True, False, True, True]]])
    keep = {
        (0.55, 0): [2, 5],
        (0.55, 3): [1, 2, 5],
        (0.55, 99): [0, 1, 2, 4, 5],
        (0.01, 0): [],
        (0.01, 1): [2],
    }
    for (probability, fewest), wanted in keep.items():
        kept = HardPixels(probability, fewest)(-prob.log(), counted)
        assert kept.flatten().nonzero().flatten().tolist() == wanted


def test_fewest_pixels_are_per_image_and_drawn_from_the_batch():
    loss = torch.tensor([[[9.0, 8, 7, 6]], [[1.0, 2, 3, 4]]])
    kept = HardPixels(1e-9, 2)(loss, loss > 0)
    assert kept.flatten().tolist() == [True] * 4 + [False] * 4


def test_loss_of_hard_pixels_is_the_mean_of_those_kept():
    logits, mask = case("classes", (6, 6), ignored=0)
    nll = F.cross_entropy(logits, mask.long(), reduction="none").flatten()
    loss = PixelCrossEntropy(ohem=HardestFraction(0.25))(logits, mask)
    torch.testing.assert_close(loss, nll.topk(18).values.mean())
    kept = nll[nll > -math.log(0.3)]
    loss = PixelCrossEntropy(ohem=HardPixels(0.3, 0))(logits, mask)
    torch.testing.assert_close(loss, kept.mean())


def test_hardness_does_not_depend_on_weights():
    logits, mask = case("classes", (6, 6))
    weights, ohem = torch.tensor([1.0, 9, 0.1], dtype=torch.float64), HardestFraction(0.25)
    valid = mask != 255
    nll = F.cross_entropy(logits, mask.long(), reduction="none", ignore_index=255)
    kept = mask.masked_fill(~ohem(nll, valid), 255).long()
    wanted = F.cross_entropy(logits, kept, weights, ignore_index=255)
    torch.testing.assert_close(PixelCrossEntropy(weights.tolist(), ohem=ohem)(logits, mask), wanted)


def test_focal_by_hand():
    logits = torch.tensor([[[math.log(3), math.log(3)]]])  # p = 3/4
    mask = torch.tensor([[1, 0]], dtype=torch.uint8)
    on, off = 0.25**2 * -math.log(0.75), 0.75**2 * -math.log(0.25)
    assert float(Focal()(logits, mask)) == pytest.approx((on + off) / 2)
    assert float(Focal(2, alpha=0.9)(logits, mask)) == pytest.approx((0.9 * on + 0.1 * off) / 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_focal_without_focus_is_cross_entropy(layout):
    logits, mask = case(layout)
    torch.testing.assert_close(Focal(0)(logits, mask), PixelCrossEntropy()(logits, mask))


def test_focal_of_two_classes_is_that_of_their_difference():
    logits, mask = case("binary")
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    loss = Focal(1.5, alpha=0.3)
    torch.testing.assert_close(loss(logits, mask), loss(two, mask))


@pytest.mark.parametrize("layout", ["classes", "binary"])
def test_focal_root_is_finite_for_certain_pixels(layout):
    logits, mask = case(layout, dtype=torch.float32)
    logits = (logits.sign() * 100).requires_grad_()
    Focal(0.5)(logits, mask).backward()
    assert logits.grad.isfinite().all()


def test_a_very_wrong_pixel_costs_its_logit():
    logits = torch.tensor([[[-100.0]]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.uint8)
    for loss in (PixelCrossEntropy(), Focal()):
        value = loss(logits, mask)
        assert float(value.detach()) == pytest.approx(100)
        (gradient,) = torch.autograd.grad(value, logits)
        assert float(gradient) == pytest.approx(-1)
