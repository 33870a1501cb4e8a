"""Tiny models for the page: one with a head of each kind for images, and one for volumes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from densekit import DenseModel
from densekit.artifact import save_artifact
from densekit.heads import Classification, Embedding, FasterRCNN
from densekit.heads.base import Head
from densekit.necks import FPN
from densekit.types import Batch, Features, FeatureSpec, Predictions
from tests.unit.tiny import CHANNELS, SMALL_HEAD, TinyBackbone, spread

NAMES = ["star", "square", "<b>moon</b>"]
HEADS: dict[str, dict[str, Any]] = {
    "detection": {"names": NAMES, "ids": [1, 2, 3], "num_classes": 3},
    "category": {"names": NAMES, "ids": [1, 2, 3], "num_classes": 3},
    "identity": {"num_identities": 4},
    "brightness": {},
}


class Brightness(Head):
    """A head of a plug-in, whose result is of no kind that densekit knows."""

    def __init__(self, specs: Mapping[str, FeatureSpec]) -> None:
        super().__init__()
        self.reads = ("c0",)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return {"mean": features["c0"].mean(dim=(1, 2, 3))}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return outputs

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        return {"none": features["c0"].sum() * 0}


def of_images(heads: Mapping[str, Mapping[str, Any]] = HEADS) -> DenseModel:
    """Boxes, a category, an embedding and a number."""
    torch.manual_seed(0)
    model = DenseModel(
        TinyBackbone(),
        {
            "detection": partial(FasterRCNN, **SMALL_HEAD),
            "category": partial(Classification, num_classes=3),
            "identity": partial(Embedding, num_identities=4, embedding_size=8),
            "brightness": Brightness,
        },
        partial(FPN, out_channels=CHANNELS),
        {"heads": {name: dict(head) for name, head in heads.items()}},
    )
    spread(model)
    return model.eval()


def stored(path: Path) -> Path:
    """A checkpoint of `of_images`."""
    faster = "densekit.heads.faster_rcnn"
    config = {
        "backbone": {"_target_": "tests.unit.tiny.TinyBackbone"},
        "neck": {"_target_": "densekit.necks.FPN", "out_channels": CHANNELS},
        "heads": {
            "detection": {
                "_target_": f"{faster}.FasterRCNN",
                "num_classes": 3,
                "box_head": {"_target_": f"{faster}.BoxHead", "_partial_": True, "hidden": [16]},
            },
            "category": {"_target_": "densekit.heads.Classification", "num_classes": 3},
            "identity": {
                "_target_": "densekit.heads.Embedding",
                "num_identities": 4,
                "embedding_size": 8,
            },
            "brightness": {"_target_": "tests.unit.app.demo.models.Brightness"},
        },
    }
    save_artifact(path, of_images(), yaml.safe_dump(config))
    return path
