"""The helper that every multi-process test trusts must itself report results and failures."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from densekit.testing import run_distributed


def _sum_of_ranks(rank: int, scale: float) -> Tensor:
    value = torch.tensor(float(rank + 1)) * scale
    dist.all_reduce(value)
    return value


def _fails_on_rank_one(rank: int) -> None:
    if rank == 1:
        raise ValueError("rank one has a reason")


@pytest.mark.ddp
def test_returns_each_ranks_result() -> None:
    assert [float(v) for v in run_distributed(_sum_of_ranks, 2, 2.0)] == [6.0, 6.0]


@pytest.mark.ddp
def test_failure_of_one_rank_raises_with_its_message() -> None:
    with pytest.raises(RuntimeError, match="rank one has a reason"):
        run_distributed(_fails_on_rank_one, 2)
