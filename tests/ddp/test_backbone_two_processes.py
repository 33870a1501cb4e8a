"""Activation checkpointing and stochastic depth in two processes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from densekit.backbones import ResNet
from densekit.testing import run_distributed

pytestmark = pytest.mark.ddp


def _gradient(network: ResNet, run: nn.Module, images: Tensor, seed: int) -> Tensor:
    """Of the first convolution, which lies behind everything that may be dropped."""
    network.zero_grad()
    torch.manual_seed(seed)
    run(images)["c5"].square().mean().backward()
    assert network.conv1.weight.grad is not None
    return network.conv1.weight.grad.clone()


def _rank(rank: int) -> list[Tensor]:
    found = []
    for drop_path, seed in ((0.0, 1), (0.5, 1), (0.5, 1), (0.5, 2)):
        torch.manual_seed(0)
        network = ResNet(
            18, width=16, norm="frozen", drop_path=drop_path, activation_checkpointing=True
        )
        images = torch.randn(8, 3, 32, 32)[4 * rank : 4 * rank + 4]
        run = DistributedDataParallel(network)
        found.append(_gradient(network, run, images, 10 * seed + rank))
    return found


def test_two_processes() -> None:
    first, second = run_distributed(_rank, 2)
    for ours, theirs in zip(first, second, strict=True):
        assert torch.equal(ours, theirs)
    whole, dropped, again, other = first
    torch.manual_seed(0)
    network = ResNet(18, width=16, norm="frozen")
    expected = _gradient(network, network, torch.randn(8, 3, 32, 32), 1)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(dropped, again)  # the seed decides
    assert not torch.equal(dropped, other)
