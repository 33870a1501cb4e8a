"""Images of identities in memory, and a small model of embeddings without batch norm."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densekit import DenseModel
from densekit.data import DataModule, Source
from densekit.heads import Embedding
from densekit.heads.embedding import GlobalAverage
from densekit.training import LitModel
from densekit.types import Sample
from tests.unit.tiny import TinyBackbone

PEOPLE = 11  # does not divide by two processes


class Faces:
    """Noise around a pattern an identity.

    Args:
        images: Of each identity.
        target: Whether samples say whom they show.
    """

    def __init__(self, images: int = 4, *, target: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(PEOPLE * images) % PEOPLE
        patterns = rng.integers(40, 200, (PEOPLE, 32, 32, 3))
        noise = rng.integers(-30, 30, (len(self.labels), 32, 32, 3))
        self.images = (patterns[self.labels] + noise).astype(np.uint8)
        self.target = target

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sizes(self) -> np.ndarray:
        return np.full((len(self), 2), 32)

    def describe(self) -> dict[str, Any]:
        known = {"num_identities": PEOPLE} if self.target else {}
        return {**known, "channels": 3, "dtype": "uint8"}

    def __getitem__(self, index: int) -> Sample:
        others = np.arange(index + 1, len(self))
        same = self.labels[others] == self.labels[index]
        pairs = np.stack([others, same, (index + others) % 10], 1).astype(np.int64)
        label = int(self.labels[index])
        sample: Sample = {
            "image": self.images[index],
            "index": index,
            "meta": {"path": str(index), "image_id": index, "original_size": (32, 32)},
            "truth": {"image_id": index, "size": (32, 32), "identity": label, "pairs": pairs},
        }
        if self.target:
            sample["identity"] = np.asarray(label)
        return sample


class PlainPool(GlobalAverage):
    """Without the norm, which sees half a batch in each of two processes."""

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        embedding: Tensor = self.fc(self.pool(x, size))
        return embedding


def face_model(classifier: Any, **head: Any) -> DenseModel:
    """Float64, the same weights for the same number of random draws before."""
    torch.manual_seed(5)
    make = partial(
        Embedding, num_identities=PEOPLE, embedding_size=6, pool=PlainPool, classifier=classifier
    )
    model = DenseModel(TinyBackbone(), {"identity": partial(make, **head)}).double()
    for module in model.modules():
        if isinstance(module, PlainPool):
            module.features = nn.Identity()
    return model


def face_data(processes: int = 1, *, workers: int = 0) -> DataModule:
    """Batches of 8 images, those of a global batch."""
    source = Source(
        train=Faces(),
        val=Faces(3, target=False),
        heads=["identity"],
        batch_size=8 // processes,
        eval_batch_size=5,
        num_workers=workers,
    )
    return DataModule({"faces": source})


def face_lit(model: DenseModel, optimizer: Any = None) -> LitModel:
    from densekit.inference import WholeImage

    optimizer = optimizer or partial(torch.optim.SGD, lr=0.2, momentum=0.9, weight_decay=0.01)
    return LitModel(model, optimizer, inferer=WholeImage(), channels_last=False)
