"""The detector trained by two processes is the detector trained by one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from densekit.backbones import ResNet
from densekit.data import Scenes
from densekit.data.collate import collate
from densekit.heads import FasterRCNN
from densekit.heads.faster_rcnn import RPN, BoxHead, ProposalRule, SamplingRule
from densekit.model import DenseModel
from densekit.necks import FPN
from densekit.ops.hash import mix
from densekit.testing import run_distributed
from densekit.types import Batch

pytestmark = pytest.mark.ddp

STEPS, IMAGES = 5, 4


class Loss(nn.Module):
    """What DDP wraps: a forward that is the sum of the losses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        rpn = partial(RPN, proposals=ProposalRule(100, 50), sampling=SamplingRule(32, 0.5))
        box_head = partial(BoxHead, hidden=(32,), sampling=SamplingRule(16, 0.25))
        head = partial(FasterRCNN, num_classes=4, rpn=rpn, box_head=box_head)
        backbone = ResNet(18, norm="frozen")
        self.model = DenseModel(backbone, {"detection": head}, partial(FPN, out_channels=16))
        self.model.double()

    def forward(self, batch: Batch) -> Tensor:
        return torch.stack(list(self.model.loss(batch).values())).sum()


def batch_of(step: int, rank: int, world_size: int) -> Batch:
    """Every `world_size`-th sample of a global batch; one of its images has no object.

    In the third step none of the second of two processes has any.
    """
    scenes = Scenes("train", 100, size=(96, 96), objects=(3, 5))
    rows = list(range(step * IMAGES, (step + 1) * IMAGES))[rank::world_size]
    batch = collate([{**scenes[row], "index": row} for row in rows], training=True)
    batch["key"] = mix(7, step, batch["key"])
    empty = [row % IMAGES == 1 or (step == 2 and row % 2 == 1) for row in rows]
    batch["boxes_valid"][empty] = False
    return batch


def train(rank: int, world_size: int) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    module = Loss()
    wrapped = DistributedDataParallel(module) if world_size > 1 else module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        wrapped(batch_of(step, rank, world_size)).backward()
        optimizer.step()
    return dict(module.state_dict())


def test_five_steps_give_the_parameters_of_one_process() -> None:
    alone = train(0, 1)
    ranks = run_distributed(train, 2, 2)
    for name, value in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.allclose(ranks[0][name], value, rtol=0, atol=1e-6), name
