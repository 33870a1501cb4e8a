"""The Lovász extension: equal to one minus the Jaccard index where predictions are hard."""

from __future__ import annotations

import pytest
import torch

from densekit.losses import Lovasz
from densekit.losses.lovasz import jaccard_slopes
from tests.unit.losses.cases import case


def jaccard(pred, truth):
    return float((pred & truth).sum() / (pred | truth).sum())


@pytest.mark.parametrize("seed", range(3))
def test_hard_classes_give_the_jaccard_index(seed):
    logits, mask = case("classes", seed=seed)
    pred = logits.argmax(1)
    certain = 200 * torch.nn.functional.one_hot(pred, 3).movedim(-1, 1).double()
    valid = mask != 255
    terms = [1 - jaccard((pred == k) & valid, mask == k) for k in range(3) if (mask == k).any()]
    assert float(Lovasz()(certain, mask)) == pytest.approx(sum(terms) / len(terms))


def test_hinge_by_hand():
    # Errors 1.5 (missed), 1.25 (false alarm), .5 (found, within the margin).
    logits = torch.tensor([[[-0.5, 0.25, 0.5]]])
    mask = torch.tensor([[1, 0, 1]], dtype=torch.uint8)
    jaccards = [0, 1 - 1 / 2, 1 - 1 / 3, 1]
    slopes = [after - before for before, after in zip(jaccards, jaccards[1:], strict=False)]
    wanted = 1.5 * slopes[0] + 1.25 * slopes[1] + 0.5 * slopes[2]
    assert float(Lovasz()(logits, mask)) == pytest.approx(wanted)


def test_nothing_to_find_costs_the_worst_false_alarm():
    logits = torch.tensor([[[-3.0, 0.5, -0.25, 2.0]]], requires_grad=True)
    mask = torch.tensor([[0, 0, 0, 255]], dtype=torch.uint8)
    loss = Lovasz()(logits, mask)
    loss.backward()
    assert loss == 1.5
    assert logits.grad.tolist() == [[[0, 1, 0, 0]]]


def test_one_image_a_region_is_the_mean_of_images():
    logits, mask = case("classes", batch=3)
    images = [Lovasz()(logits[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(Lovasz(per_image=True)(logits, mask), torch.stack(images).mean())
    assert Lovasz()(logits, mask) != Lovasz(per_image=True)(logits, mask)


def test_labels_are_the_mean_of_binary_losses():
    logits, mask = case("labels")
    each = [Lovasz()(logits[:, k : k + 1], mask[:, k]) for k in range(3)]
    torch.testing.assert_close(Lovasz()(logits, mask), torch.stack(each).mean())


def test_slopes_keep_their_digits_in_a_large_image():
    random = torch.Generator().manual_seed(0)
    errors = torch.rand(1, 300_000, generator=random)
    belongs = torch.rand(1, 300_000, generator=random) < 0.001
    everywhere = torch.ones_like(belongs)
    slopes = jaccard_slopes(errors, belongs, everywhere)
    exact = jaccard_slopes(errors.double(), belongs, everywhere)
    torch.testing.assert_close(slopes.double(), exact, rtol=1e-5, atol=0)
    assert float(exact.sum()) == pytest.approx(1)
