"""Where the voxels of a volume lie: what it takes to put a mask back onto the anatomy.

z, y, x the stored axes of a volume, slowest first; C its channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need

SAME_GRID = 0.1
"""Largest distance of two grids, in voxels anywhere in the volume, that are the same grid."""

FLAT = 1e-4
"""Volume of three axes of length 1 from which they span no space."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the world of DICOM and ITK (left, posterior, superior) to that of NIfTI."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The frame of a stored volume.

    Attributes:
        path: File or folder it was read from.
        kind: "nifti", "itk" or "dicom".
        shape: Voxels along z, y, x, the stored axes transposed.
        channels: C.
        spacing: Millimetres between neighbouring voxels along z, y, x.
        affine: (4, 4) float64, stored (x, y, z) index to millimetres in NIfTI's world (right,
            anterior, superior), exactly as the source has it.
        is_placed: Whether the file says how its axes lie in the body; else the affine is a guess.
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
    """A volume with its frame.

    Attributes:
        image: (z, y, x, C) float32, the stored values in the unit that the file states (HU for
            CT): slope and intercept are applied, nothing else.
    """

    image: NDArray[Any]


def voxel_sizes(affine: NDArray[Any], path: str) -> tuple[float, float, float]:
    """Spacing along z, y, x.

    Raises:
        ValueError: If the affine is not finite or flattens an axis, naming the file.
    """
    if not np.isfinite(affine).all():
        raise ValueError(f"{path}: expected a finite affine, got {affine.tolist()}")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not steps.all():
        raise ValueError(f"{path}: the affine {affine.tolist()} is no volume's: an axis vanishes")
    if abs(np.linalg.det(affine[:3, :3] / steps)) < FLAT:
        raise ValueError(
            f"{path}: the affine {affine.tolist()} is no volume's: its axes lie in one plane"
        )
    x, y, z = steps.tolist()
    return z, y, x


def orientation_of(grid: Grid) -> str:
    """Where the stored x, y and z run to, e.g. "RAS": right, anterior, superior."""
    codes = need("nibabel", "orientation of a volume").aff2axcodes(grid.affine)
    return "".join(str(code) for code in codes)


def check_same_grid(first: Grid, other: Grid) -> None:
    """Refuses two volumes whose voxels do not lie at the same places.

    Raises:
        ValueError: Naming both files and what differs.
    """
    if first.shape != other.shape:
        raise ValueError(
            f"{other.path}: {_sides(other)} voxels (z, y, x), but {first.path} has {_sides(first)}"
        )
    distance = grid_distance(first.affine, other.affine, first.shape)
    if distance > SAME_GRID:
        raise ValueError(
            f"{other.path}: its voxels lie elsewhere than those of {first.path}: by up to"
            f" {distance:.4g} voxels, accepted are {SAME_GRID}; found"
            f" {_rows(other)} and {_rows(first)}. Resample one onto the other's grid."
        )


def grid_distance(first: NDArray[Any], other: NDArray[Any], shape: tuple[int, ...]) -> float:
    """How far two affines put a voxel of one volume apart, at most.

    Args:
        first: (4, 4), invertible.
        other: (4, 4).
        shape: Voxels along z, y, x.

    Returns:
        In voxels of the first along one of its axes, the outer faces of the volume included.
    """
    ends = [(-0.5, side - 0.5) for side in reversed(shape)]
    corners = np.stack([*np.meshgrid(*ends), np.ones((2, 2, 2))]).reshape(4, 8)
    # The difference first: world coordinates may be large beside a voxel.
    apart = np.linalg.solve(first[:3, :3], (other - first)[:3] @ corners)
    return float(np.abs(apart).max())


def _sides(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape))


def _rows(grid: Grid) -> list[list[float]]:
    return [[float(f"{value:.5g}") for value in row] for row in grid.affine[:3]]
