"""Heads whose explanations are known, and a backbone whose levels are the image itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit import DenseModel, Predictor
from densekit.backbones.base import Backbone
from densekit.explain import Explainer, Settings, Target
from densekit.heads.base import Head
from densekit.types import Batch, Features, FeatureSpec, Predictions

SMALL = Settings(masks=64, grid=4, steps=4)


class Halves(Backbone):
    """c1 is the image averaged over 2 x 2 pixels."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.features = {f"c{n}": FeatureSpec(1, (2**n,) * dims) for n in range(2)}
        self.dims = dims
        self.scale = nn.Parameter(torch.ones(1))

    def trim(self, levels: Iterable[str]) -> None:
        assert set(levels) <= set(self.features)

    def forward(self, x: Tensor) -> Features:
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.dims - 1]
        return {"c0": x, "c1": self.scale * pool(x, 2)}


class Corner(Head):
    """Class 1 is the mean of the first half of every axis of c1; nothing else counts."""

    target_keys = ()

    def __init__(self, specs: Mapping[str, FeatureSpec], level: str = "c1") -> None:
        super().__init__()
        self.reads, self.size_divisor = (level,), 2

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        x = features[self.reads[0]]
        mean = x[(..., *(slice(side // 2) for side in x.shape[2:]))].flatten(1).mean(1)
        return {"logits": torch.stack([-mean, mean], 1)}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"probabilities": outputs["logits"].softmax(1)}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        return {"zero": self(features, batch["size"])["logits"].sum() * 0}


class Strange(Corner):
    """Predicts what densekit has no name for."""

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"age": outputs["logits"][:, 1]}


class Age(Target):
    name = "age"

    def score(self, predictions: Predictions) -> Tensor:
        return predictions["age"]


class Offering(Strange):
    """Says itself what can be explained."""

    def explain_targets(self, predictions: Predictions, info: Mapping[str, Any]) -> list[Target]:
        return [Age()]


def model_of(head: type[Head], dims: int = 2, **info: Any) -> DenseModel:
    described = {"heads": {"category": {"names": ["other", "corner"], "ids": [0, 1]}}}
    known = {**described, "mean": [100.0], "std": [50.0], **info}
    return DenseModel(Halves(dims), {"category": partial(head)}, info=known).eval()


def explainer(
    method: str, head: type[Head] = Corner, settings: Settings = SMALL, dims: int = 2, **info: Any
) -> Explainer:
    return Explainer(
        Predictor(model_of(head, dims, **info)), method=method, settings=settings, batch_size=16
    )


def bright(*sides: int) -> np.ndarray[Any, Any]:
    """A bright image, brighter than the mean everywhere, (*S, 1)."""
    noise = np.random.default_rng(0).integers(150, 250, (*sides, 1))
    return noise.astype(np.uint8)
