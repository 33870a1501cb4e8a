"""Reads volumes of any format and writes masks, without moving a voxel.

z, y, x the stored axes of a volume, slowest first; C its channels, K classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.medical.dicom import dicom_grid, read_dicom
from densekit.data.medical.grids import Grid, Volume, check_same_grid
from densekit.data.medical.itk import itk_grid, read_itk
from densekit.data.medical.nifti import nifti_grid, nifti_slabs, read_nifti, write_nifti
from densekit.data.medical.volume_files import ITK, NIFTI, SUFFIXES, has_suffix
from densekit.data.reading.files import reading


def read_volume(path: str | Path, series: str | None = None) -> Volume:
    """Reads one volume of any format; a fourth axis is taken as channels.

    NIfTI (`.nii`, `.nii.gz`, or a pair `.hdr` and `.img`), Analyze, MetaImage (`.mha`, `.mhd`),
    NRRD (`.nrrd`, `.nhdr`), a folder with a DICOM series, or one DICOM file. Values are the stored
    ones with slope and intercept applied (HU for CT) and are never rescaled otherwise.

    Args:
        path: The file or folder.
        series: SeriesInstanceUID or SeriesDescription (`*` and `?` are wildcards), if a DICOM
            folder holds several series.

    Raises:
        ValueError: If the volume is missing, damaged, incomplete, not scalar or not finite; the
            message names the file or folder.
    """
    volume = decode_volume(path, series)
    bad = volume.image.size - int(np.isfinite(volume.image).sum())
    _check_finite(path, bad, volume.image.size)
    return volume


def decode_volume(path: str | Path, series: str | None = None) -> Volume:
    """The volume of `read_volume`, whose voxels may be NaN or infinite."""
    source = _existing(Path(path))
    with reading(source, "volume"):
        if source.is_dir() or not has_suffix(source, SUFFIXES):
            return read_dicom(source, series)
        return read_itk(source) if has_suffix(source, ITK) else read_nifti(source)


def read_grid(path: str | Path, series: str | None = None) -> Grid:
    """Reads the grid of a volume from headers alone; arguments and errors as `read_volume`."""
    source = _existing(Path(path))
    with reading(source, "header of a volume"):
        if source.is_dir() or not has_suffix(source, SUFFIXES):
            grid = dicom_grid(source, series)
        else:
            grid = itk_grid(source) if has_suffix(source, ITK) else nifti_grid(source)
    return grid


def read_channels(paths: Sequence[str | Path], series: str | None = None) -> Volume:
    """Reads several volumes of one patient and stacks them as channels (multi-sequence studies).

    Args:
        paths: The volumes in the order of the channels; the grid is the first one's.
        series: See `read_volume`.

    Raises:
        ValueError: If the volumes have different grids; the message names both files.
    """
    first, *others = [read_volume(path, series) for path in paths]
    if not others:
        return first
    for other in others:
        check_same_grid(first, other)
    image = np.concatenate([first.image, *(other.image for other in others)], axis=-1)
    return Volume(**{**vars(first), "image": image, "channels": image.shape[-1]})


def read_channels_grid(paths: Sequence[str | Path], series: str | None = None) -> Grid:
    """The grid of `read_channels`, from headers alone."""
    first, *others = [read_grid(path, series) for path in paths]
    for other in others:
        check_same_grid(first, other)
    return Grid(**{**vars(first), "channels": sum(grid.channels for grid in (first, *others))})


def write_mask(
    path: str | Path,
    mask: NDArray[Any],
    like: Grid,
    stored: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
) -> None:
    """Writes a mask as NIfTI that every viewer overlays on its source.

    Affine and header are exactly those of a NIfTI source; for DICOM the affine is computed from
    position, orientation and spacing.

    Args:
        path: New file, `.nii` or `.nii.gz`.
        mask: (z, y, x), or multi-label (K, z, y, x); an array in a file is not read as a whole.
        like: The volume that the mask belongs to (a `Volume` is a `Grid`).
        stored: Converts slices of the mask to the values to store, uint8 or uint16.

    Raises:
        ValueError: If the suffix, the shape or the dtype is not valid.
    """
    target = Path(path)
    if not has_suffix(target, NIFTI):
        raise ValueError(f"{path}: expected a NIfTI file {' or '.join(NIFTI)}, got {target.name!r}")
    if tuple(mask.shape[-3:]) != like.shape or mask.ndim not in (3, 4):
        raise ValueError(
            f"{path}: expected a mask of shape {like.shape} (z, y, x) as {like.path}, got"
            f" {mask.shape}"
        )
    dtype = stored(mask[..., :1, :, :]).dtype
    if dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: expected a mask of uint8 or uint16, got {dtype}")
    write_nifti(target, mask, like, stored)


def stored_on_disk(paths: Sequence[str | Path], grid: Grid, file: Path) -> NDArray[Any]:
    """Copies the values of `read_channels` to a file, a few slices at a time.

    Args:
        paths: NIfTI files, the channels of one patient in their order.
        grid: Theirs, of `read_channels_grid`.
        file: A new file, of 4 bytes per voxel.

    Returns:
        (C, z, y, x) float32, an array in that file.

    Raises:
        ValueError: If a volume is damaged or not finite; the message names its file.
    """
    values = array_on_disk(file, np.float32, (grid.channels, *grid.shape))
    first = 0
    for path in map(Path, paths):
        bad = channel = 0
        with reading(path, "volume"):
            for channel, rows, slab in nifti_slabs(path):
                values[first + channel, rows] = slab
                bad += slab.size - int(np.isfinite(slab).sum())
        _check_finite(path, bad, math.prod(grid.shape) * (channel + 1))
        first += channel + 1
    return values


def array_on_disk(file: Path, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
    """Creates an array in a new file, whose space is reserved.

    Without it, a disk that is full later would kill the process, not raise.

    Raises:
        OSError: The disk is full; names the file.
    """
    with file.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            try:
                size = math.prod(shape) * np.dtype(dtype).itemsize
                os.posix_fallocate(stream.fileno(), 0, size)
            except OSError as error:
                error.filename = str(file)
                raise
    return np.memmap(file, dtype, "r+", shape=tuple(shape))


def _check_finite(path: str | Path, bad: int, count: int) -> None:
    if bad:
        raise ValueError(
            f"{path}: expected finite voxels, got {bad} of {count} NaN or infinite; replace them"
            " first"
        )


def _existing(path: Path) -> Path:
    if path.is_file() or path.is_dir():
        return path
    parent = next(folder for folder in path.absolute().parents if folder.is_dir())
    inside = ", ".join(sorted(entry.name for entry in parent.iterdir())[:10]) or "nothing"
    raise ValueError(
        f"{path}: expected an existing file or folder, got none; {parent} holds {inside}"
    )
