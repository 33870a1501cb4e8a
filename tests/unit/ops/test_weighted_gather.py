"""Weighted sums of rows and their gradient equal the plain formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from densekit.ops.weighted_gather import weighted_gather


def case(count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(7, 3, generator=generator, dtype=dtype).requires_grad_()
    rows = torch.randint(0, 6, (count, 4), generator=generator)  # none reads the last row
    return table, rows, torch.rand(count, 4, generator=generator, dtype=dtype)


def of_formula(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    return (table[rows] * weights[..., None]).sum(1)


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_sums_and_gradient_are_those_of_the_formula(count: int, index: torch.dtype) -> None:
    table, rows, weights = case(count, torch.float64)
    found = weighted_gather(table, rows.to(index), weights)
    expected = of_formula(table, rows, weights)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn(3, count, generator=torch.Generator().manual_seed(1)).double().T
    (gradient,) = torch.autograd.grad(found, table, upstream)
    (right,) = torch.autograd.grad(expected, table, upstream)
    torch.testing.assert_close(gradient, right)


def test_gradient_in_bfloat16_is_summed_in_float32() -> None:
    table = torch.zeros(1, 2, dtype=torch.bfloat16, requires_grad=True)
    rows, weights = torch.zeros(4096, 1, dtype=torch.int32), torch.ones(4096, 1).bfloat16()
    weighted_gather(table, rows, weights).sum().backward()
    assert table.grad is not None
    assert table.grad.tolist() == [[4096.0, 4096.0]]
