"""Where the voxels of a volume lie: what it takes to put a mask back onto the anatomy.

z, y, x the stored axes of a volume, slowest first; C its channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.extras import need

AFFINE_TOLERANCE = 1e-3
"""Largest difference of two affines, in millimetres a voxel, that are the same grid."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The frame of a stored volume.

    Attributes:
        path: File or folder it was read from.
        kind: "nifti" or "dicom".
        shape: Voxels along z, y, x, the stored axes transposed.
        channels: C.
        spacing: Millimetres between neighbouring voxels along z, y, x.
        affine: (4, 4) float64, stored (x, y, z) index to millimetres in NIfTI's world (right,
            anterior, superior), exactly as the source has it.
        header: NIfTI header of the source, None for DICOM.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    affine: NDArray[Any]
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
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"{path}: the affine {affine.tolist()} is no volume's: an axis vanishes")
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return z, y, x


def orientation(grid: Grid) -> str:
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
    difference = np.abs(first.affine - other.affine).max()
    if difference > AFFINE_TOLERANCE:
        raise ValueError(
            f"{other.path}: its voxels lie elsewhere than those of {first.path}: the affines differ"
            f" by up to {difference:.4g} mm, accepted is {AFFINE_TOLERANCE}; found"
            f" {_rounded(other)} and {_rounded(first)}. Resample one onto the other's grid."
        )


def _sides(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape))


def _rounded(grid: Grid) -> list[list[float]]:
    rows: list[list[float]] = np.round(grid.affine[:3], 4).tolist()
    return rows
