"""Focal loss of anchors: torchvision's values, exact gradients, one tensor kept for backward."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from densekit.losses.anchor_focal import focal_sum

CLASSES = torch.tensor([[0, 2, -1, -2, 1], [-1, -1, -2, -1, -1]])
SETTINGS = [(2.0, 0.25), (0.0, 0.5), (1.5, 0.6), (0.5, 0.25)]


def logits(scale: float = 3) -> Tensor:
    torch.manual_seed(0)
    return (scale * torch.randn(2, 5, 3, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("scale", [0.1, 3, 60])
@pytest.mark.parametrize(("gamma", "alpha"), SETTINGS)
def test_equals_torchvision(gamma: float, alpha: float, scale: float) -> None:
    x, weights = logits(scale), torch.tensor([2.0, 0.5], dtype=torch.float64)
    one_hot = (CLASSES[..., None] == torch.arange(3)).double()
    each = sigmoid_focal_loss(x, one_hot, alpha, gamma) * (CLASSES != -2)[..., None]
    expected = each.sum((1, 2))
    (slope,) = torch.autograd.grad((expected * weights).sum(), x)

    found = focal_sum(x, CLASSES, CLASSES != -2, gamma, alpha)
    (ours,) = torch.autograd.grad((found * weights).sum(), x)

    torch.testing.assert_close(found, expected)
    if gamma >= 1:  # torchvision's powers have infinite slopes below
        torch.testing.assert_close(ours, slope)
    with torch.no_grad():
        torch.testing.assert_close(focal_sum(x, CLASSES, CLASSES != -2, gamma, alpha), found)


@pytest.mark.parametrize(("gamma", "alpha"), SETTINGS)
def test_gradients(gamma: float, alpha: float) -> None:
    loss = partial(focal_sum, classes=CLASSES, counted=CLASSES != -2, gamma=gamma, alpha=alpha)
    assert torch.autograd.gradcheck(loss, (logits(),))


def test_extreme_logits_stay_finite() -> None:
    x = torch.tensor([[[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]], requires_grad=True)
    classes = torch.tensor([[0, 0]])
    found = focal_sum(x, classes, classes >= 0, 2.0, 0.25)
    found.sum().backward()
    assert found.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_16_bit_logits_are_summed_in_32() -> None:
    x = logits().detach().bfloat16()
    kept = x.clone().requires_grad_()
    found = focal_sum(kept, CLASSES, CLASSES != -2, 2.0, 0.25)
    found.sum().backward()
    exact = x.double().requires_grad_()
    expected = focal_sum(exact, CLASSES, CLASSES != -2, 2.0, 0.25)
    expected.sum().backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected)
    assert kept.grad is not None
    torch.testing.assert_close(kept.grad, exact.grad, check_dtype=False, rtol=1e-2, atol=1e-4)
