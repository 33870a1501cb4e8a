"""Grids: the positions of a volume's voxels, needed to write a mask back onto the anatomy.

z, y, x the stored axes of a volume, slowest first; C its channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need

SAME_GRID = 0.1
"""Largest distance in voxels, anywhere in the volume, at which two grids count as the same."""

FLAT = 1e-4
"""Volume spanned by three unit axes below which they count as coplanar."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the world coordinates of DICOM and ITK (left, posterior, superior) to those of NIfTI."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid of a stored volume.

    Attributes:
        path: File or folder that it was read from.
        kind: "nifti", "itk" or "dicom".
        shape: Voxels along z, y, x, the stored axes transposed.
        channels: C.
        spacing: Millimetres between neighbouring voxels along z, y, x.
        affine: (4, 4) float64, from stored (x, y, z) index to millimetres in NIfTI's world
            coordinates (right, anterior, superior), exactly as in the source.
        is_placed: Whether the file states its orientation; else the affine is a guess.
        header: NIfTI header of the source, None for other formats.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    affine: NDArray[Any]
    is_placed: bool = True
    header: Any = None


@dataclass(frozen=True, kw_only=True)
class Volume(Grid):
    """A volume with its grid.

    Attributes:
        image: (z, y, x, C) float32, the stored values in the unit of the file (HU for CT): only
            slope and intercept are applied.
    """

    image: NDArray[Any]


def voxel_sizes(affine: NDArray[Any], path: str) -> tuple[float, float, float]:
    """Spacing along z, y, x.

    Raises:
        ValueError: If the affine is not finite or not invertible; the message names the file.
    """
    if not np.isfinite(affine).all():
        raise ValueError(f"{path}: expected a finite affine, got {affine.tolist()}")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not steps.all():
        raise ValueError(f"{path}: expected an affine of axes longer than 0, got {affine.tolist()}")
    if abs(np.linalg.det(affine[:3, :3] / steps)) < FLAT:
        raise ValueError(
            f"{path}: expected an affine of independent axes, got {affine.tolist()}, whose axes lie"
            " in one plane"
        )
    x, y, z = steps.tolist()
    return z, y, x


def orientation_of(grid: Grid) -> str:
    """The directions of the stored x, y and z, e.g. "RAS": right, anterior, superior."""
    codes = need("nibabel", "orientation of a volume").aff2axcodes(grid.affine)
    return "".join(str(code) for code in codes)


def check_same_grid(first: Grid, other: Grid) -> None:
    """Refuses two volumes whose voxels have different positions.

    Raises:
        ValueError: If the grids differ; the message names both files.
    """
    if first.shape != other.shape:
        raise ValueError(
            f"{other.path}: expected {_sides(first)} voxels (z, y, x) as in {first.path}, got"
            f" {_sides(other)}"
        )
    distance = grid_distance(first.affine, other.affine, first.shape)
    if distance > SAME_GRID:
        raise ValueError(
            f"{other.path}: expected the voxel positions of {first.path} to within {SAME_GRID}"
            f" voxels, got a distance of {distance:.4g} voxels (affines {_rows(other)} and"
            f" {_rows(first)}); resample one onto the other's grid"
        )


def grid_distance(first: NDArray[Any], other: NDArray[Any], shape: tuple[int, ...]) -> float:
    """Largest distance between the positions of a voxel by two affines.

    Args:
        first: (4, 4), invertible.
        other: (4, 4).
        shape: Voxels along z, y, x.

    Returns:
        The distance in voxels of `first` along one of its axes, up to the outer faces.
    """
    ends = [(-0.5, side - 0.5) for side in reversed(shape)]
    corners = np.stack([*np.meshgrid(*ends), np.ones((2, 2, 2))]).reshape(4, 8)
    # The difference first, because world coordinates may be much larger than a voxel.
    apart = np.linalg.solve(first[:3, :3], (other - first)[:3] @ corners)
    return float(np.abs(apart).max())


def _sides(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape))


def _rows(grid: Grid) -> list[list[float]]:
    return [[float(f"{value:.5g}") for value in row] for row in grid.affine[:3]]
