"""Compares a training step in two processes with the same step in one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from densekit.model import DenseModel
from densekit.testing import samples as vary
from densekit.testing.processes import run_distributed
from densekit.testing.subject import Subject, total_loss
from densekit.types import Batch, Sample

RATE = 1e-2
TOLERANCE = 1e-6
"""For weights after the step, in float64, relative to the largest change of their tensor."""


class _Loss(nn.Module):
    """The sum of a model's losses as a module, for DDP to wrap."""

    def __init__(self, model: DenseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return total_loss(self.model, batch)


def two_processes(subject: Subject) -> None:
    """Asserts that two ranks get the same weights, equal to those of a single process."""
    first, *others = subject.samples
    empty = [vary.without_objects(sample, subject.target_specs) for sample in others]
    of_ranks = [[first], empty[:1]]  # uneven: all objects are on one rank
    one, two = run_distributed(_rank, 2, subject, of_ranks)
    for name, value in one.items():
        assert torch.equal(value, two[name]), f"{name} differs between the processes after a step"
    alone = _step(subject, [sample for samples in of_ranks for sample in samples], wrap=False)
    before = {k: v.double() for k, v in subject.model().state_dict().items()}
    for name, value in alone.items():
        scale = float((value - before[name]).abs().max()) or 1.0
        off = float((value - one[name]).abs().max()) / scale
        assert off < TOLERANCE, f"{name} differs from a single process by {off:.1e} of its step"


def _rank(rank: int, subject: Subject, of_ranks: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
    return _step(subject, of_ranks[rank], wrap=True)


def _step(subject: Subject, samples: Sequence[Sample], *, wrap: bool) -> dict[str, Tensor]:
    """Returns every weight after one step of gradient descent in float64.

    The model is in eval mode, so that batch norm and dropout do not depend on the batches.
    """
    model = subject.model().double().eval()
    loss: nn.Module = _Loss(model)
    if wrap:
        loss = DistributedDataParallel(loss)
    loss(subject.batch(samples)).backward()
    torch.optim.SGD(model.parameters(), lr=RATE).step()
    return {name: value.double() for name, value in model.state_dict().items()}
