from __future__ import annotations

import torch

from densekit.ops import dist


def test_one_process_without_a_group():
    assert (dist.rank(), dist.world_size()) == (0, 1)
    assert not dist.is_distributed()


def test_global_count_divides_safely():
    assert dist.global_count(torch.tensor(7)).item() == 7.0
    assert dist.global_count(torch.tensor([2.0, 0.0])).tolist()[0] == 2.0
    nothing = torch.zeros((), requires_grad=True)
    loss = nothing / dist.global_count(torch.tensor(0))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(nothing.grad)


def test_global_count_keeps_float64_and_drops_the_gradient():
    assert dist.global_count(torch.tensor(1.0, dtype=torch.float64)).dtype == torch.float64
    assert dist.global_count(torch.tensor(1, dtype=torch.int64)).dtype == torch.float32
    assert not dist.global_count(torch.tensor(1.0, requires_grad=True)).requires_grad


def test_global_count_compiles_without_a_break():
    compiled = torch.compile(
        lambda x: x.sum() / dist.global_count((x > 0).sum()), fullgraph=True, backend="eager"
    )
    assert compiled(torch.ones(4)).item() == 1.0
