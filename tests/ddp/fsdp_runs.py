"""Small networks, data and trainers in float64, to compare divided weights with whole ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densekit.backbones import ResNet
from densekit.data import DataModule, Scenes, SemanticScenes, Source
from densekit.heads import FasterRCNN, UNet
from densekit.heads.faster_rcnn import RPN, BoxHead, ProposalRule, SamplingRule
from densekit.inference import WholeImage
from densekit.model import DenseModel
from densekit.necks import FPN
from densekit.ops import dist
from densekit.training import Fsdp, LitModel
from tests.unit.training.fakes import trainer

IMAGES, STEPS = 4, 4
"""Images of a batch of all processes; optimiser steps."""
SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-3)
CONFIG = "backbone: {_target_: none}\nheads: {}\n"


def detector() -> DenseModel:
    rpn = partial(RPN, proposals=ProposalRule(100, 50), sampling=SamplingRule(32, 0.5))
    box_head = partial(BoxHead, hidden=(16,), sampling=SamplingRule(16, 0.25))
    head = partial(FasterRCNN, num_classes=5, rpn=rpn, box_head=box_head)
    neck = partial(FPN, out_channels=8)
    backbone = ResNet(18, width=8, norm="frozen")
    return DenseModel(backbone, {"detection": head}, neck, info_of("detection", 5))


def segmenter(backbone: nn.Module | None = None, norm: str = "group") -> DenseModel:
    backbone = backbone or ResNet(18, width=8, norm=norm)
    channels = [8] * (len(backbone.features) - 1)
    head = partial(UNet, num_classes=6, decoder_channels=channels, norm=norm)
    return DenseModel(backbone, {"segmentation": head}, info=info_of("segmentation", 6))


def info_of(head: str, count: int) -> dict[str, Any]:
    names = [f"class {number}" for number in range(count)]
    return {"heads": {head: {"names": names, "ids": list(range(count)), "num_classes": count}}}


def lit_of(build: Callable[[], DenseModel], optimizer: Any = SGD, **settings: Any) -> LitModel:
    """A module with the same weights in every call."""
    torch.manual_seed(3)
    return LitModel(build(), optimizer, inferer=WholeImage(), config=CONFIG, **settings).double()


def data_of(task: str, sources: int = 1) -> DataModule:
    """Data sets `scenes0`, `scenes1`, ... of 16 images, and 3 to validate."""
    kind = Scenes if task == "detection" else SemanticScenes
    made = {
        f"scenes{number}": Source(
            train=kind("train", 16, size=(64, 64), seed=number),
            val=kind("val", 3, size=(64, 64), seed=number),
            heads=[task],
            batch_size=IMAGES // dist.world_size(),
            num_workers=0,
        )
        for number in range(sources)
    }
    return DataModule(made)


def run_of(folder: Path, strategy: str, **settings: Any) -> Any:
    """A trainer with accumulation and clipping."""
    steps = {"max_steps": STEPS, "accumulate_grad_batches": 2, "gradient_clip_val": 0.5}
    common = {"devices": dist.world_size(), "precision": "64-true"}
    divided = Fsdp() if strategy == "fsdp" else strategy
    return trainer(folder, strategy=divided, **common | steps | settings)


def whole(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module, with whole tensors in every process."""
    return {name: dist.whole(value).clone() for name, value in module.state_dict().items()}
