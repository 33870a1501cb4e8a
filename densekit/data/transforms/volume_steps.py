"""Random transforms of volumes, fast enough to keep up with training on two cores.

Names are those of MONAI, whose import alone takes seconds; these take about half its time per
sample. All randomness comes from the given generator. C channels, P planes of the mask, S the D
sizes (2 or 3 axes).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX

Pair = tuple[NDArray[Any], NDArray[Any]]
Range = float | Sequence[float]


class Step(Protocol):
    """One transform of an image and its mask."""

    def __call__(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """(C, *S) float32 image and (P, *S) uint8 mask, transformed together and not in place."""


@dataclass(frozen=True)
class RandomStep(ABC):
    """A `Step` applied with a probability.

    Args:
        prob: Probability that it is applied.
    """

    prob: float = 0.1

    def __call__(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `Step`."""
        return (image, mask) if rng.random() >= self.prob else self.change(image, mask, rng)

    @abstractmethod
    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """The transformed image and mask; arguments as in `Step`."""


@dataclass(frozen=True)
class RandFlip(RandomStep):
    """Flips the given axes together.

    Args:
        prob: Probability that it is applied.
        spatial_axis: One axis, several, or None for all; 0 is z of a volume.
    """

    spatial_axis: int | Sequence[int] | None = None

    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `RandomStep`."""
        given = range(image.ndim - 1) if self.spatial_axis is None else self.spatial_axis
        axes = tuple(axis + 1 for axis in ([given] if isinstance(given, int) else given))
        return np.flip(image, axes), np.flip(mask, axes)


@dataclass(frozen=True)
class RandAffine(RandomStep):
    """Rotates, scales and shifts about the centre; linear in the image, nearest in the mask.

    Outside the border the image repeats its edge and the mask is ignored. Angles and lengths are
    those of the voxel grid: for very anisotropic spacings rotate about the coarse axis only.

    Args:
        prob: Probability that it is applied.
        rotate_range: Largest angle in radians, for all axes or per axis (about z, y, x).
        scale_range: Largest relative change of size, for all axes or per axis.
        translate_range: Largest shift in voxels, for all axes or per axis.
    """

    rotate_range: Range = 0.0
    scale_range: Range = 0.0
    translate_range: Range = 0.0

    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `RandomStep`."""
        dims = image.ndim - 1
        rotation = _rotation(_drawn(self.rotate_range, 3 if dims == 3 else 1, rng), dims)
        zoom = 1 + _drawn(self.scale_range, dims, rng)
        shift = _drawn(self.translate_range, dims, rng)
        half = np.asarray(image.shape[1:]) / 2
        linear = (rotation / zoom) * (half / half[:, None])  # of coordinates from -1 to 1
        theta = np.concatenate([linear, (shift / half)[:, None]], axis=1)
        theta[:, :dims] = theta[:, :dims][::-1, ::-1]  # torch counts axes from the last
        theta[:, dims] = theta[::-1, dims]
        grid = F.affine_grid(
            torch.from_numpy(theta.astype(np.float32))[None],
            [1, 1, *image.shape[1:]],
            align_corners=False,
        )
        moved = _sampled(image, grid, "bilinear", "border")
        # Zeros from beyond the border become 255 when the inverted mask is inverted back.
        inverted = _sampled(IGNORE_INDEX - mask, grid, "nearest", "zeros")
        return moved, IGNORE_INDEX - inverted.astype(np.uint8)


@dataclass(frozen=True)
class RandGaussianNoise(RandomStep):
    """Adds Gaussian noise whose standard deviation is drawn from 0..`std` (scaled intensities)."""

    std: float = 0.1

    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `RandomStep`."""
        deviation = np.float32(rng.uniform(0, self.std))
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return image + deviation * noise, mask


@dataclass(frozen=True)
class RandScaleIntensity(RandomStep):
    """Multiplies by 1 plus a number drawn from -`factors`..`factors`, or from the given range."""

    factors: Range = 0.1

    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `RandomStep`."""
        return image * np.float32(1 + rng.uniform(*_ends(self.factors))), mask


@dataclass(frozen=True)
class RandShiftIntensity(RandomStep):
    """Adds a number drawn from -`offsets`..`offsets`, or from the given range."""

    offsets: Range = 0.1

    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `RandomStep`."""
        return image + np.float32(rng.uniform(*_ends(self.offsets))), mask


@dataclass(frozen=True)
class RandAdjustContrast(RandomStep):
    """Applies a gamma curve between the smallest and largest value of each channel."""

    gamma: Sequence[float] = (0.7, 1.5)

    def change(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `RandomStep`."""
        axes = tuple(range(1, image.ndim))
        low = image.min(axis=axes, keepdims=True)
        span = np.maximum(image.max(axis=axes, keepdims=True) - low, np.float32(1e-7))
        smallest, largest = self.gamma
        exponent = np.float32(rng.uniform(smallest, largest))
        return ((image - low) / span) ** exponent * span + low, mask


STEPS = {
    step.__name__: step
    for step in (
        RandFlip,
        RandAffine,
        RandGaussianNoise,
        RandScaleIntensity,
        RandShiftIntensity,
        RandAdjustContrast,
    )
}
"""The steps by name."""


def _drawn(largest: Range, count: int, rng: np.random.Generator) -> NDArray[Any]:
    """(count,) numbers drawn from -largest to largest, one per axis."""
    ends = np.broadcast_to(np.asarray(largest, dtype=np.float64), count)
    return rng.uniform(-1, 1, count) * ends


def _ends(given: Range) -> tuple[float, float]:
    if isinstance(given, int | float):
        return -given, given
    low, high = given
    return low, high


def _rotation(angles: NDArray[Any], dims: int) -> NDArray[Any]:
    """(D, D) product of the rotations about each axis; a single rotation in 2-D."""
    total = np.eye(dims)
    planes = [(1, 2), (2, 0), (0, 1)] if dims == 3 else [(0, 1)]
    for angle, (first, second) in zip(angles, planes, strict=True):
        turn = np.eye(dims)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        total = total @ turn
    return total


def _sampled(planes: NDArray[Any], grid: torch.Tensor, mode: str, padding: str) -> NDArray[Any]:
    """(C, *S) planes sampled at the points of a grid."""
    x = torch.from_numpy(np.require(planes, np.float32, ["C", "W"]))[None]
    out = F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=False)
    moved: NDArray[Any] = out[0].numpy()
    return moved
