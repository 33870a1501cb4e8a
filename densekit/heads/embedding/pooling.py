"""Pooling of a map to one embedding per image.

Shape letters: B images, C channels, E the embedding size, D spatial dimensions, s the D sizes of a
level.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.ops.pooling import mean_inside
from densekit.types import FeatureSpec

_SMALLEST = 1e-6
"""Lower bound of the values in a generalised mean, as powers need positive numbers."""


class Pooling(nn.Module):
    """Maps a level to embeddings: pooling, a linear layer `fc` and a batch norm `features`.

    Args:
        spec: Spec of the level.
        embedding_size: E.
        in_features: Length of the pooled vector.
        bias: Whether `fc` has a bias, which the batch norm makes redundant.
    """

    def __init__(
        self, spec: FeatureSpec, embedding_size: int, in_features: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.stride = spec.stride
        self.fc = nn.Linear(in_features, embedding_size, bias=bias)
        self.features = nn.BatchNorm1d(embedding_size)

    @abstractmethod
    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """Pools a map to (B, in_features).

        Args:
            x: (B, C, *s).
            size: (B, D) int64, the size of each image without its padding.
        """

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        """Returns embeddings (B, E), not normalised; see `pool`."""
        return norm_rows(self.features, self.fc(self.pool(x, size)))


class GlobalAverage(Pooling):
    """Averages the map over each image without its padding; takes any image size.

    Args:
        spec: Spec of the level.
        embedding_size: E.
    """

    def __init__(self, spec: FeatureSpec, embedding_size: int) -> None:
        super().__init__(spec, embedding_size, spec.channels)

    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """Returns (B, C); see `Pooling.pool`."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return mean_inside(x, size, self.stride)


class GeneralisedMean(Pooling):
    """Generalised mean pooling (GeM): mean(x^p)^(1/p) over each image, with a learned exponent p.

    p = 1 is the mean; a large p approaches the maximum. Radenovic, Tolias and Chum 2018,
    "Fine-tuning CNN image retrieval with no human annotation", equation 3. Takes any image size.

    Args:
        spec: Spec of the level.
        embedding_size: E.
        p: Initial value of the exponent, above 0.

    Raises:
        ValueError: p is not above 0.
    """

    def __init__(self, spec: FeatureSpec, embedding_size: int, p: float = 3.0) -> None:
        super().__init__(spec, embedding_size, spec.channels)
        if p <= 0:
            raise ValueError(f"GeneralisedMean.p: expected a number above 0, got {p}")
        self.p = nn.Parameter(torch.tensor([p]))

    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """Returns (B, C); see `Pooling.pool`."""
        with torch.autocast(x.device.type, enabled=False):  # powers overflow 16 bits
            x = x.to(torch.promote_types(x.dtype, torch.float32)).clamp(min=_SMALLEST)
            return mean_inside(x**self.p, size, self.stride) ** (1 / self.p)


class FlattenedMap(Pooling):
    """Batch norm, dropout, one linear layer over all cells of the map, batch norm.

    Deng et al. 2019, "ArcFace", section 3.1 (setting E), with the names of arcface_torch: `bn2`,
    `fc`, `features`, the weight of the last one fixed to 1. It keeps the position of each feature,
    and takes a single image size.

    Args:
        spec: Spec of the level.
        embedding_size: E.
        size: The D sides of every image.
        dropout: Probability of dropping a cell.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        embedding_size: int,
        size: Sequence[int] = (112, 112),
        dropout: float = 0.0,
    ) -> None:
        if len(size) != spec.spatial_dims:
            raise ValueError(
                f"FlattenedMap.size: expected {spec.spatial_dims} sides, got {list(size)}"
            )
        cells = [-(-side // step) for side, step in zip(size, spec.stride, strict=True)]
        super().__init__(spec, embedding_size, spec.channels * math.prod(cells), bias=True)
        norms = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
        self.bn2 = norms[spec.spatial_dims](spec.channels)
        self.dropout = nn.Dropout(dropout)
        self.size, self.cells = tuple(size), tuple(cells)
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad_(False)

    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """Returns (B, C * cells), channels first; see `Pooling.pool`.

        Raises:
            ValueError: The images have another size.
        """
        if tuple(x.shape[2:]) != self.cells:
            about = [cell * step for cell, step in zip(x.shape[2:], self.stride, strict=True)]
            raise ValueError(
                f"FlattenedMap: expected images of {list(self.size)} pixels, got about {about};"
                " resize or align them, or take GlobalAverage or GeneralisedMean"
            )
        cells: Tensor = self.dropout(norm_rows(self.bn2, x))
        return cells.flatten(1)  # (B, C * cells)


def norm_rows(norm: nn.Module, x: Tensor) -> Tensor:
    """Returns `norm(x)`; one value per channel is normalised by the running statistics."""
    if (
        isinstance(norm, nn.modules.batchnorm._BatchNorm)
        and norm.training
        and x.numel() == x.shape[1]
    ):
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    y: Tensor = norm(x)
    return y
