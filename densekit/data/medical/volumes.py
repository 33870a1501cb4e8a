"""Volumes in and masks out, of whatever format, without moving a voxel.

z, y, x the stored axes of a volume, slowest first; C its channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.medical.dicom import dicom_grid, read_dicom
from densekit.data.medical.grids import Grid, Volume, check_same_grid
from densekit.data.medical.itk import itk_grid, read_itk
from densekit.data.medical.nifti import nifti_grid, read_nifti, write_nifti
from densekit.data.medical.volume_files import ITK, NIFTI, SUFFIXES, has_suffix
from densekit.data.reading.files import reading


def read_volume(path: str | Path, series: str | None = None) -> Volume:
    """Reads one volume of any format; of four axes the last is channels.

    NIfTI (`.nii`, `.nii.gz`, or a pair `.hdr` and `.img`), Analyze, MetaImage (`.mha`, `.mhd`),
    NRRD (`.nrrd`, `.nhdr`), a folder with a DICOM series, or one DICOM file. Values are as stored,
    by slope and intercept (HU for CT); depth is never rescaled.

    Args:
        path: The file or folder.
        series: SeriesInstanceUID or SeriesDescription (`*` and `?` stand for any letters), where a
            DICOM folder holds several.

    Raises:
        ValueError: Naming the file or folder, for whatever is missing, damaged, incomplete, not
            scalar or not finite.
    """
    found = _existing(Path(path))
    with reading(found, "volume"):
        if found.is_dir() or not has_suffix(found, SUFFIXES):
            volume = read_dicom(found, series)
        else:
            volume = read_itk(found) if has_suffix(found, ITK) else read_nifti(found)
    bad = volume.image.size - int(np.isfinite(volume.image).sum())
    if bad:
        raise ValueError(
            f"{path}: {bad} of {volume.image.size} voxels are NaN or infinite; accepted are finite"
            " ones, replace them first"
        )
    return volume


def read_grid(path: str | Path, series: str | None = None) -> Grid:
    """The frame of a volume from headers alone; arguments and errors are `read_volume`'s."""
    found = _existing(Path(path))
    with reading(found, "header of a volume"):
        if found.is_dir() or not has_suffix(found, SUFFIXES):
            grid = dicom_grid(found, series)
        else:
            grid = itk_grid(found) if has_suffix(found, ITK) else nifti_grid(found)
    return grid


def read_channels(paths: Sequence[str | Path], series: str | None = None) -> Volume:
    """Several volumes of one patient stacked as channels (multi-sequence studies).

    Args:
        paths: In the order of the channels; the frame is the first one's.
        series: See `read_volume`.

    Raises:
        ValueError: If they do not lie on the same grid, naming both files.
    """
    first, *others = [read_volume(path, series) for path in paths]
    if not others:
        return first
    for other in others:
        check_same_grid(first, other)
    image = np.concatenate([first.image, *(other.image for other in others)], axis=-1)
    return Volume(**{**vars(first), "image": image, "channels": image.shape[-1]})


def read_channels_grid(paths: Sequence[str | Path], series: str | None = None) -> Grid:
    """The frame that `read_channels` gives, from headers alone."""
    first, *others = [read_grid(path, series) for path in paths]
    for other in others:
        check_same_grid(first, other)
    return Grid(**{**vars(first), "channels": sum(grid.channels for grid in (first, *others))})


def write_mask(path: str | Path, mask: NDArray[Any], like: Grid) -> None:
    """Writes a mask as NIfTI so that every viewer lays it over its source.

    The affine and the header are a NIfTI source's own, to the bit; for DICOM the affine is computed
    from position, orientation and spacing.

    Args:
        path: New file, `.nii` or `.nii.gz`.
        mask: (z, y, x), or multi-label (K, z, y, x), uint8 or uint16.
        like: The volume that was predicted (a `Volume` is a `Grid`).

    Raises:
        ValueError: If the name, the shape or the type does not fit.
    """
    target = Path(path)
    if not has_suffix(target, NIFTI):
        raise ValueError(f"{path}: masks are written as NIfTI, accepted are {' and '.join(NIFTI)}")
    if tuple(mask.shape[-3:]) != like.shape or mask.ndim not in (3, 4):
        raise ValueError(
            f"{path}: the mask has shape {mask.shape}, {like.path} has {like.shape} (z, y, x)"
        )
    if mask.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: a mask of {mask.dtype}, accepted are uint8 and uint16")
    write_nifti(target, mask, like)


def _existing(path: Path) -> Path:
    if path.is_file() or path.is_dir():
        return path
    parent = next(folder for folder in path.absolute().parents if folder.is_dir())
    inside = ", ".join(sorted(entry.name for entry in parent.iterdir())[:10]) or "nothing"
    raise ValueError(f"{path}: no such file or folder; {parent} holds {inside}")
