"""From a map to one vector an image.

B images, C channels, E the size of an embedding, D spatial dimensions, S the D sizes of an image, s
those of a level.
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
"""What a generalised mean takes negative values for."""


class Pooling(nn.Module):
    """Maps a level to embeddings; ends in a linear layer `fc` and a batch norm `features`.

    Args:
        spec: Of the level.
        embedding_size: E.
        in_features: Length of the vector that is left of the map.
        bias: Whether `fc` has one, of no use before a batch norm.
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
        """(B, in_features) of a map.

        Args:
            x: (B, C, *s).
            size: (B, D) int64 sides of each image without its padding.
        """

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        """(B, E) embeddings, not normalised; see `pool`."""
        return norm_rows(self.features, self.fc(self.pool(x, size)))


class GlobalAverage(Pooling):
    """The mean of the map where the image is, padding left out; any image size.

    Args:
        spec: Of the level.
        embedding_size: E.
    """

    def __init__(self, spec: FeatureSpec, embedding_size: int) -> None:
        super().__init__(spec, embedding_size, spec.channels)

    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """(B, C); see `Pooling.pool`."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return mean_inside(x, size, self.stride)


class GeneralisedMean(Pooling):
    """mean(x^p)^(1/p) where the image is, p learned: between the mean (1) and the maximum.

    Radenovic, Tolias and Chum 2018, "Fine-tuning CNN image retrieval with no human annotation",
    equation 3. Any image size.

    Args:
        spec: Of the level.
        embedding_size: E.
        p: Where the exponent starts, above 0.

    Raises:
        ValueError: p is not above 0.
    """

    def __init__(self, spec: FeatureSpec, embedding_size: int, p: float = 3.0) -> None:
        super().__init__(spec, embedding_size, spec.channels)
        if p <= 0:
            raise ValueError(f"GeneralisedMean.p: above 0, found {p}")
        self.p = nn.Parameter(torch.tensor([p]))

    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """(B, C); see `Pooling.pool`."""
        with torch.autocast(x.device.type, enabled=False):  # powers overflow 16 bits
            x = x.to(torch.promote_types(x.dtype, torch.float32)).clamp(min=_SMALLEST)
            return mean_inside(x**self.p, size, self.stride) ** (1 / self.p)


class FlattenedMap(Pooling):
    """Batch norm, dropout, every cell of the map into one linear layer, batch norm.

    Deng et al. 2019, "ArcFace", section 3.1 (setting E), with the names of arcface_torch: `bn2`,
    `fc`, `features`, the weight of the last one fixed to 1. It knows where in the image a feature
    lies, and takes one image size.

    Args:
        spec: Of the level.
        embedding_size: E.
        size: The D sides of every image.
        dropout: Probability that a cell is dropped.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        embedding_size: int,
        size: Sequence[int] = (112, 112),
        dropout: float = 0.0,
    ) -> None:
        if len(size) != spec.spatial_dims:
            raise ValueError(f"FlattenedMap.size: {spec.spatial_dims} sides, found {list(size)}")
        cells = [-(-side // step) for side, step in zip(size, spec.stride, strict=True)]
        super().__init__(spec, embedding_size, spec.channels * math.prod(cells), bias=True)
        norms = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
        self.bn2 = norms[spec.spatial_dims](spec.channels)
        self.dropout = nn.Dropout(dropout)
        self.size, self.cells = tuple(size), tuple(cells)
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad_(False)

    def pool(self, x: Tensor, size: Tensor) -> Tensor:
        """(B, C * cells), channels first; see `Pooling.pool`.

        Raises:
            ValueError: The images have another size.
        """
        if tuple(x.shape[2:]) != self.cells:
            about = [cell * step for cell, step in zip(x.shape[2:], self.stride, strict=True)]
            raise ValueError(
                f"FlattenedMap: images of {list(self.size)} are accepted, found about {about};"
                " resize or align them, or take GlobalAverage or GeneralisedMean"
            )
        cells: Tensor = self.dropout(norm_rows(self.bn2, x))
        return cells.flatten(1)  # (B, C * cells)


def norm_rows(norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(x)`; one vector alone is no batch and is normalised by the running statistics."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if norm.training and x.numel() == x.shape[1]:
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    y: Tensor = norm(x)
    return y
