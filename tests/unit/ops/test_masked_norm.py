"""Batch norm over valid rows equals batch norm of these rows alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densekit.ops.masked_norm import masked_batch_norm
from densekit.testing import run_distributed

VALID = torch.tensor([True, False, True, True, False, True])


def norm_of(kind: type[_BatchNorm], **settings: Any) -> _BatchNorm:
    norm = kind(4, **settings).double()
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def rows(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, *shape, dtype=torch.float64, generator=generator) * 3 + 1
    return x.requires_grad_()


@pytest.mark.parametrize(
    ("kind", "shape", "settings"),
    [
        (nn.BatchNorm2d, (3, 5), {}),
        (nn.BatchNorm1d, (), {"momentum": None}),
        (nn.BatchNorm3d, (2, 1, 3), {"affine": False, "track_running_stats": False}),
    ],
)
def test_equals_the_norm_of_the_valid_rows(
    kind: type[_BatchNorm], shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    ours = norm_of(kind, **settings)
    theirs = kind(4, **settings).double()
    theirs.load_state_dict(ours.state_dict())
    x, y = rows(shape), rows(shape)
    for _ in range(2):
        mine, reference = masked_batch_norm(ours, x, VALID)[VALID], theirs(y[VALID])
        torch.testing.assert_close(mine, reference)
        (mine * torch.arange(mine.numel()).view_as(mine)).sum().backward()
        (reference * torch.arange(mine.numel()).view_as(mine)).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_evaluation_uses_the_running_statistics() -> None:
    norm = norm_of(nn.BatchNorm2d)
    masked_batch_norm(norm, rows((3, 3)), VALID)
    norm.eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = rows((3, 3))
    assert torch.equal(masked_batch_norm(norm, x, VALID), norm(x))
    torch.testing.assert_close(norm.state_dict(), before)


def test_no_valid_row_changes_nothing_and_is_finite() -> None:
    norm = norm_of(nn.BatchNorm2d)
    x = rows((3, 3))
    masked_batch_norm(norm, x, torch.zeros(6, dtype=torch.bool)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.equal(norm.running_mean, torch.zeros(4, dtype=torch.float64))
    assert torch.equal(norm.running_var, torch.ones(4, dtype=torch.float64))


def test_bfloat16_rows_are_summed_in_float32() -> None:
    norm = nn.BatchNorm2d(4)
    x = rows((3, 3)).detach().bfloat16()
    y = masked_batch_norm(norm, x, VALID)
    assert y.dtype == torch.bfloat16
    exact = nn.BatchNorm2d(4)(x[VALID].float())
    torch.testing.assert_close(y[VALID].float(), exact, rtol=1e-2, atol=1e-2)


def normalised_by_rank(rank: int) -> dict[str, Tensor]:
    """Rank 0 holds two rows, one of them valid; rank 1 the other four."""
    torch.manual_seed(0)
    norm = norm_of(nn.SyncBatchNorm)
    part = slice(0, 2) if rank == 0 else slice(2, 6)
    x = rows((3, 5)).detach()[part].requires_grad_()
    y = masked_batch_norm(norm, x, VALID[part])
    (y * VALID[part][:, None, None, None]).pow(3).sum().backward()
    assert x.grad is not None
    assert norm.running_var is not None
    return {"y": y.detach()[VALID[part]], "gradient": x.grad, "variance": norm.running_var}


@pytest.mark.ddp
def test_synchronised_norm_counts_the_rows_of_all_processes() -> None:
    first, second = run_distributed(normalised_by_rank, 2)
    torch.manual_seed(0)
    norm, x = norm_of(nn.BatchNorm2d), rows((3, 5))
    y = masked_batch_norm(norm, x, VALID)
    (y * VALID[:, None, None, None]).pow(3).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(torch.cat([first["y"], second["y"]]), y.detach()[VALID])
    torch.testing.assert_close(torch.cat([first["gradient"], second["gradient"]]), x.grad)
    torch.testing.assert_close(first["variance"], norm.running_var)
    torch.testing.assert_close(second["variance"], norm.running_var)
