"""The base class of ResNets: a stem and stages, with trimming, freezing and weight loading."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable
from os import PathLike, fspath
from typing import ClassVar, Self

from torch import Tensor, nn

from densekit._names import unknown
from densekit.backbones.base import Backbone
from densekit.backbones.layouts import openmmlab_stem
from densekit.backbones.packaged import SCHEME, packaged
from densekit.backbones.stages import Stage
from densekit.backbones.weights import load_weights, read_weights, statistics_of
from densekit.layers import FrozenBatchNorm
from densekit.types import Features, FeatureSpec

log = logging.getLogger(__name__)


class Staged(Backbone):
    """A stem (c1) and stages named `layer1` (c2), `layer2` (c3) and so on.

    Attributes:
        stem_modules: Names of the modules that make c1.
        classifier: Prefixes of the classification layers' tensors, which are not loaded.
        is_residual: Whether the blocks have shortcuts.
        freeze_stages: Number of levels, from c1 on, that are kept fixed.
    """

    stem_modules: ClassVar[tuple[str, ...]] = ("conv1", "bn1")
    classifier: ClassVar[tuple[str, ...]] = ("fc.",)
    is_residual: bool = True
    freeze_stages: int = 0

    @abstractmethod
    def make_stem(self, x: Tensor) -> Tensor:
        """Maps an image (B, C, *S) to c1."""

    def enter_stages(self, x: Tensor) -> Tensor:
        """Maps c1 to the input of the first stage."""
        return x

    def add_stage(self, stage: Stage, spec: FeatureSpec) -> None:
        """Appends a stage; `spec` describes its output."""
        number = len(self.features) - 1
        self.add_module(f"layer{number}", stage)
        self.features[f"c{number + 1}"] = spec

    def forward(self, x: Tensor) -> Features:
        """Maps an image (B, C, *S) to its levels; c1 is the stem's output before pooling."""
        features = {"c0": x}
        x = self.make_stem(x)
        features["c1"] = x
        stages = list(self.features)[2:]
        if stages:
            x = self.enter_stages(x)
        for level in stages:
            x = self.get_submodule(_layer(level))(x)
            features[level] = x
        return features

    def trim(self, levels: Iterable[str]) -> None:
        """Removes the stages after the deepest of the levels read."""
        for level in levels_behind(self.features, levels):
            delattr(self, _layer(level))
            del self.features[level]

    def freeze(self, count: int) -> None:
        """Freezes weights and statistics of the first `count` levels, from c1 on.

        Raises:
            ValueError: There are fewer levels.
        """
        most = len(self.features) - 1
        if count not in range(most + 1):
            raise ValueError(f"freeze_stages: expected 0 to {most}, got {count}")
        self.freeze_stages = count
        for module in self._frozen():
            module.requires_grad_(False)
        self.train()

    def load(self, weights: str | PathLike[str], architecture: str | None = None) -> None:
        """Loads weights, adapted to the channels and dimensions of the image.

        Args:
            weights: Path of a file, URL with its hash, `pip:PACKAGE`, or name of torchvision's
                weights.
            architecture: torchvision's name of the network; None if it has no weights for it.

        Raises:
            ValueError: They cannot be read or do not fit.
        """
        self._check_norm(fspath(weights))
        state = openmmlab_stem(read_weights(weights, architecture))
        if not self.is_residual and any(".downsample." in key for key in state):
            raise ValueError(
                "weights: expected those of a plain network with residual=False, got a network"
                f" with shortcuts in {fspath(weights)}"
            )
        image = self.features["c0"]
        load_weights(
            self,
            state,
            in_channels=image.channels,
            spatial_dims=image.spatial_dims,
            first_convs=["conv1.weight", "conv1.0.weight"],  # the second of a deep stem
            left_out=self.classifier,
        )
        self.statistics = statistics_of(weights)

    def _check_norm(self, weights: str) -> None:
        """Refuses weights without variances for a norm that would need them in training."""
        if not weights.startswith(SCHEME) or not packaged(weights).frozen_norm:
            return
        if not any(isinstance(module, FrozenBatchNorm) for module in self.modules()):
            raise ValueError(
                f"norm: expected frozen, as {weights} holds no variances of its batch norms, got"
                " another norm"
            )

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode, except of frozen stages, which stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        names: list[str] = []
        for level in list(self.features)[1 : self.freeze_stages + 1]:
            names += self.stem_modules if level == "c1" else [_layer(level)]
        return [self.get_submodule(name) for name in names]


def levels_behind(features: Iterable[str], read: Iterable[str]) -> list[str]:
    """Returns the levels after the deepest one read, and logs them.

    Raises:
        ValueError: A level is unknown, or none but the image (c0) is read.
    """
    order, read = list(features), set(read)
    for level in sorted(read - set(order)):
        raise ValueError(unknown("level of the backbone", level, order))
    deepest = max((order.index(level) for level in read), default=0)
    if deepest == 0:
        raise ValueError(
            f"backbone: expected one of its levels ({', '.join(order[1:])}) to be read, got none"
        )
    behind = order[deepest + 1 :]
    if behind:
        log.info("removed %s from the backbone, which no head reads", ", ".join(behind))
    return behind


def _layer(level: str) -> str:
    """Name of the stage whose output is a level, c2 or deeper."""
    return f"layer{int(level[1:]) - 1}"
