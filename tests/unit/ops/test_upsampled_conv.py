"""The convolution of an upsampled map equals upsampling and convolving, gradients too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from densekit.ops.upsampled_conv import CONV, upsampled_conv

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "1d": ((5,), (10,)),
    "2d": ((4, 5), (8, 10)),
    "2d_one_axis": ((4, 5), (4, 10)),
    "2d_same": ((4, 5), (4, 5)),
    "2d_odd": ((4, 5), (7, 9)),
    "3d": ((2, 3, 4), (4, 6, 8)),
    "3d_anisotropic": ((3, 3, 4), (3, 6, 8)),
    "one_pixel": ((1, 1), (2, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_upsampling_and_convolving(case: str) -> None:
    coarse, fine = CASES[case]
    kind: dict[str, Any] = {"dtype": torch.float64, "requires_grad": True}
    x = torch.randn(2, 4, *coarse, **kind)
    weight = torch.randn(5, 4, *[3] * len(fine), **kind)
    expected = CONV[len(fine)](F.interpolate(x, fine, mode="nearest"), weight, padding=1)
    found = upsampled_conv(x, weight, fine)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    direction = torch.randn_like(expected)
    for own, other in zip(
        torch.autograd.grad(found, [x, weight], direction),
        torch.autograd.grad(expected, [x, weight], direction),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)
