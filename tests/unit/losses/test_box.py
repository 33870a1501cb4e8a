"""Smooth L1, plain L1 as its limit, and the generalised IoU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss

from densekit.losses.box import giou_loss, smooth_l1


@pytest.mark.parametrize(
    ("error", "beta", "expected"),
    [(0.5, 1.0, 0.125), (2.0, 1.0, 1.5), (-2.0, 0.0, 2.0), (0.1, 1 / 9, 0.045)],
)
def test_values(error: float, beta: float, expected: float) -> None:
    pred, target = torch.tensor([error]), torch.zeros(1)
    torch.testing.assert_close(smooth_l1(pred, target, beta), torch.tensor([expected]))


def test_the_limit_is_plain_l1() -> None:
    pred, target = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(smooth_l1(pred, target, 0), F.l1_loss(pred, target, reduction="none"))


def test_runs_in_the_dtype_of_the_target() -> None:
    assert smooth_l1(torch.zeros(2).bfloat16(), torch.zeros(2), 1.0).dtype == torch.float32


def test_giou_equals_torchvision() -> None:
    torch.manual_seed(0)
    corner = torch.randint(0, 8, (2, 500, 2)).float()  # disjoint, touching, nested, equal
    boxes = torch.cat([corner, corner + torch.randint(0, 6, (2, 500, 2))], -1)
    ours, theirs = (boxes[0].clone().requires_grad_() for _ in range(2))
    found, expected = giou_loss(ours, boxes[1]), generalized_box_iou_loss(theirs, boxes[1])
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
