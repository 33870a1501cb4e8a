"""What follows from shapes is kept, but nothing that a trace or an inference mode has made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from densekit.ops.constants import KEPT, constant

CPU = torch.device("cpu")


def counted() -> tuple[list[int], Callable[..., Tensor]]:
    calls: list[int] = []

    @constant
    def grid(count: int, device: torch.device) -> Tensor:
        calls.append(count)
        return torch.arange(count, dtype=torch.float32, device="cpu").to(device)

    return calls, grid


def test_kept_by_arguments_and_not_for_ever() -> None:
    calls, grid = counted()
    assert grid(3, CPU) is grid(3, CPU)
    assert grid(3, torch.device("meta")).is_meta
    assert calls == [3, 3]
    for count in range(10, 10 + KEPT):
        grid(count, CPU)
    grid(3, CPU)
    assert calls[-1] == 3


def test_made_in_inference_mode_it_may_train() -> None:
    _, grid = counted()
    with torch.inference_mode():
        grid(4, CPU)
    weight = torch.ones(4, requires_grad=True)
    (weight * grid(4, CPU)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 1, 2, 3]


def test_nothing_of_a_trace_is_met_afterwards() -> None:
    _, grid = counted()

    class Adds(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + grid(len(x), x.device)

    x = torch.ones(5)
    with FakeTensorMode(allow_non_fake_inputs=True):
        grid(5, CPU)
    program = torch.export.export(Adds(), (x,), strict=False).module()
    compiled = torch.compile(Adds(), backend="eager", fullgraph=True)
    with torch.device("meta"):
        eager = Adds()(x)
    for found in (eager, program(x), compiled(x), Adds()(x)):
        assert type(found) is Tensor
        assert found.tolist() == [1, 2, 3, 4, 5]
