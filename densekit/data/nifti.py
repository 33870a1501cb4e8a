"""NIfTI files: stored axes (x, y, z, C) read as (z, y, x, C), masks written back likewise."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.extras import need
from densekit.data.grids import SAME_GRID, Grid, Volume, grid_distance, orientation_of, voxel_sizes

SUFFIXES = (".nii", ".nii.gz")
SHEAR = 1e-4
"""Cosine between two axes from which they are not at right angles."""

_TO_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}


def is_nifti(path: Path) -> bool:
    """Whether the name is a NIfTI file's."""
    return path.name.lower().endswith(SUFFIXES)


def nifti_stem(path: Path) -> str:
    """The file's name without `.nii` or `.nii.gz`."""
    return path.name[: -len(".nii.gz" if path.name.lower().endswith(".gz") else ".nii")]


def nifti_grid(path: Path) -> Grid:
    """The frame of a file, from its header alone.

    Raises:
        ValueError: Naming the file, if it is not readable or no scalar volume.
    """
    return _grid(_open(path), path)


def read_nifti(path: Path) -> Volume:
    """The file's values, scaled by its own slope and intercept.

    Raises:
        ValueError: Naming the file, if it is damaged or no scalar volume.
    """
    file = _open(path)
    grid = _grid(file, path)
    try:
        stored = file.get_fdata(dtype=np.float32, caching="unchanged")
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: the voxels cannot be read: {error}") from error
    image = stored.reshape(*grid.shape[::-1], grid.channels).transpose(2, 1, 0, 3)
    return Volume(image=np.ascontiguousarray(image), **vars(grid))


def two_frames(grid: Grid) -> str | None:
    """What a header says that places its volume twice, by sform and by qform, and differently.

    The sform is used, as in nibabel, SimpleITK takes the qform: nobody can tell which is meant.

    Returns:
        For a message; None where they agree or one is not set.
    """
    header = grid.header
    if header is None or header["sform_code"] < 1 or header["qform_code"] < 1:
        return None
    sform = f"sform {orientation_of(grid)} at {grid.affine[:3, 3].round(2).tolist()}"
    try:
        quaternion = header.get_qform()
        sizes = voxel_sizes(quaternion, grid.path)
    except ValueError as error:
        return f"{grid.path}: {sform}, the qform is unreadable: {error}"
    distance = grid_distance(grid.affine, quaternion, grid.shape)
    if distance <= SAME_GRID:
        return None
    other = replace(grid, affine=quaternion, spacing=sizes)
    return (
        f"{grid.path}: {sform}, qform {orientation_of(other)} at"
        f" {quaternion[:3, 3].round(2).tolist()}, up to {distance:.3g} voxels apart"
    )


def write_nifti(path: Path, mask: NDArray[Any], like: Grid) -> None:
    """Writes a mask on the grid of a volume; the file appears whole or not at all.

    Args:
        path: New file, `.nii` or `.nii.gz`.
        mask: (z, y, x) or (K, z, y, x) unsigned integers, written in their own type.
        like: The volume that the mask belongs to.
    """
    data = mask.transpose(3, 2, 1, 0) if mask.ndim == 4 else mask.transpose(2, 1, 0)
    if like.header is not None and like.header["dim"][0] == 2 and mask.ndim == 3:
        data = data[:, :, 0]
    part = path.with_name(f".{uuid.uuid4().hex}{''.join(path.suffixes[-2:])}")
    try:
        need("nibabel", "writing NIfTI").save(_mask_file(data, like), part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _mask_file(data: NDArray[Any], like: Grid) -> Any:
    nibabel = need("nibabel", "writing NIfTI")
    if like.header is None:
        file = nibabel.Nifti1Image(data, like.affine, dtype=data.dtype)
        file.set_sform(like.affine, code="scanner")
        # A quaternion knows no shear (a tilted gantry): viewers must not prefer it then.
        axes = like.affine[:3, :3] / np.linalg.norm(like.affine[:3, :3], axis=0)
        is_sheared = np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR
        file.set_qform(like.affine, code="unknown" if is_sheared else "scanner")
        file.header.set_xyzt_units("mm")
        return file
    header = like.header.copy()
    header.set_data_dtype(data.dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    second = isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    return kind(data, like.affine, header)


def _open(path: Path) -> Any:
    nibabel = need("nibabel", f"{path}: reading NIfTI")
    try:
        file = nibabel.load(path)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path}: not a readable NIfTI file: {error}") from error
    if not isinstance(file, nibabel.Nifti1Pair):  # Nifti2 is one too
        raise ValueError(f"{path}: found {type(file).__name__}, accepted are NIfTI-1 and NIfTI-2")
    return file


def _grid(file: Any, path: Path) -> Grid:
    shape = tuple(int(side) for side in file.shape)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError(f"{path}: shape {shape}, accepted are (x, y), (x, y, z), (x, y, z, C)")
    dtype = file.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise ValueError(f"{path}: voxels of type {dtype}, accepted are integers and floats")
    x, y, z, channels = (*shape, 1, 1)[:4]
    affine = np.asarray(file.affine, dtype=np.float64)
    unit = _TO_MILLIMETRES.get(file.header.get_xyzt_units()[0], 1.0)
    return Grid(
        path=str(path),
        kind="nifti",
        shape=(z, y, x),
        channels=channels,
        spacing=tuple(side * unit for side in voxel_sizes(affine, str(path))),
        affine=affine,
        is_placed=bool(file.header["sform_code"] > 0 or file.header["qform_code"] > 0),
        header=file.header,
    )
