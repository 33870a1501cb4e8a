"""Reads NIfTI and Analyze: axes (x, y, z, C) become (z, y, x, C); writes masks back likewise."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit._files import replacing
from densekit.data.medical.grids import (
    SAME_GRID,
    Grid,
    Volume,
    grid_distance,
    orientation_of,
    voxel_sizes,
)

SHEAR = 1e-4
"""Cosine between two axes above which they do not count as orthogonal."""

_TO_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}
_MOST_PACKED = 1100
"""Largest compression ratio of gzip."""


def nifti_grid(path: Path) -> Grid:
    """The grid of a file, from its header alone.

    Raises:
        ValueError: If the file cannot be read or is not a scalar volume, with its path.
    """
    return _grid(_open(path), path)


def read_nifti(path: Path) -> Volume:
    """Reads a file's values, scaled by its own slope and intercept.

    Raises:
        ValueError: If the file is damaged or not a scalar volume, with its path.
    """
    file = _open(path)
    grid = _grid(file, path)
    if path.suffix.lower() == ".gz":  # nibabel stops before the checksum
        file = type(file).from_bytes(gzip.decompress(path.read_bytes()))
    stored = file.get_fdata(dtype=np.float32, caching="unchanged")
    image = stored.reshape(*grid.shape[::-1], grid.channels).transpose(2, 1, 0, 3)
    return Volume(image=np.ascontiguousarray(image), **vars(grid))


def two_frames(grid: Grid) -> str | None:
    """Describes the difference between sform and qform, for a warning.

    The sform is used, as in nibabel, but either may be meant.

    Returns:
        The text; None if they agree or one is not set.
    """
    header = grid.header
    if header is None or header["sform_code"] < 1 or header["qform_code"] < 1:
        return None
    sform = f"sform {_shown(grid)}"
    try:
        quaternion = header.get_qform()
        sizes = voxel_sizes(quaternion, grid.path)
    except ValueError as error:
        return f"{grid.path}: {sform}, qform unreadable: {error}"
    distance = grid_distance(grid.affine, quaternion, grid.shape)
    if distance <= SAME_GRID:
        return None
    qform = f"qform {_shown(replace(grid, affine=quaternion, spacing=sizes))}"
    return f"{grid.path}: {sform}, {qform}, up to {distance:.3g} voxels apart"


def _shown(grid: Grid) -> str:
    origin = ", ".join(f"{value:.4g}" for value in grid.affine[:3, 3])
    return f"{orientation_of(grid)} from ({origin})"


def write_nifti(path: Path, mask: NDArray[Any], like: Grid) -> None:
    """Writes a mask on the grid of a volume, atomically.

    Args:
        path: New file, `.nii` or `.nii.gz`.
        mask: (z, y, x) or (K, z, y, x) unsigned integers, written in their own dtype.
        like: The volume that the mask belongs to.
    """
    data = mask.transpose(3, 2, 1, 0) if mask.ndim == 4 else mask.transpose(2, 1, 0)
    if like.header is not None and like.header["dim"][0] == 2 and mask.ndim == 3:
        data = data[:, :, 0]
    with replacing(path) as part:
        need("nibabel", "writing NIfTI").save(_mask_file(data, like), part)


def _mask_file(data: NDArray[Any], like: Grid) -> Any:
    nibabel = need("nibabel", "writing NIfTI")
    if like.header is None:
        file = nibabel.Nifti1Image(data, like.affine, dtype=data.dtype)
        placed = "scanner" if like.is_placed else "unknown"
        file.set_sform(like.affine, code=placed)
        # A quaternion cannot express shear (a tilted gantry): viewers must not prefer it then.
        axes = like.affine[:3, :3] / np.linalg.norm(like.affine[:3, :3], axis=0)
        is_sheared = np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR
        file.set_qform(like.affine, code="unknown" if is_sheared else placed)
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
    file = nibabel.load(path)
    if not isinstance(file, nibabel.AnalyzeImage):  # the base class of NIfTI
        raise ValueError(f"{path}: expected NIfTI or Analyze, got {type(file).__name__}")
    return file


def _grid(file: Any, path: Path) -> Grid:
    shape = tuple(int(side) for side in file.shape)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError(f"{path}: expected shape (x, y), (x, y, z) or (x, y, z, C), got {shape}")
    dtype = file.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise ValueError(f"{path}: expected integers or floats, got voxels of type {dtype}")
    _check_length(file, path, math.prod(shape) * dtype.itemsize)
    if flat := [step for step in _stored_steps(file)[: len(shape)] if not abs(step) > 0]:
        raise ValueError(f"{path}: pixdim: expected more than 0 on each axis, got {flat[0]}")
    x, y, z, channels = (*shape, 1, 1)[:4]
    affine = np.asarray(file.affine, dtype=np.float64)
    header = file.header if "sform_code" in file.header else None  # Analyze has none to keep
    unit = "mm" if header is None else header.get_xyzt_units()[0]
    scale = _TO_MILLIMETRES.get(unit, 1.0)
    return Grid(
        path=str(path),
        kind="nifti",
        shape=(z, y, x),
        channels=channels,
        spacing=tuple(side * scale for side in voxel_sizes(affine, str(path))),
        affine=affine,
        is_placed=_is_placed(file),
        header=header,
    )


def _stored_steps(file: Any) -> list[float]:
    """Spacing along x, y, z in the header if the affine is derived from it, else empty.

    The raw header is read because nibabel replaces 0 by 1.
    """
    header = file.header
    if "sform_code" in header and header["sform_code"] > 0:
        return []
    kind = "header" if "header" in file.file_map else "image"
    with file.file_map[kind].get_prepare_fileobj("rb") as stream:
        raw = type(header).from_fileobj(stream, check=False)
    steps: list[float] = raw["pixdim"][1:4].tolist()
    return steps


def _is_placed(file: Any) -> bool:
    """Whether the header, or SPM's `.mat` beside an Analyze file, states the orientation."""
    if "sform_code" in file.header:
        return bool(file.header["sform_code"] > 0 or file.header["qform_code"] > 0)
    mat = file.file_map.get("mat")
    return mat is not None and mat.filename is not None and Path(mat.filename).is_file()


def _check_length(file: Any, path: Path, voxels: int) -> None:
    """Refuses a file too short for its header: it is cut, or the header is wrong.

    Args:
        file: The file as nibabel opens it.
        path: Its path.
        voxels: Bytes of the voxels by the header.
    """
    image = Path(file.file_map["image"].filename)
    first = file.header.single_vox_offset if getattr(file.header, "is_single", False) else 0
    if file.dataobj.offset < first:
        raise ValueError(
            f"{path}: vox_offset: expected at least {first}, got {file.dataobj.offset}"
        )
    needed = voxels + max(0, int(file.dataobj.offset))
    actual = image.stat().st_size
    is_packed = image.suffix.lower() == ".gz"
    if needed > actual * (_MOST_PACKED if is_packed else 1):
        raise ValueError(f"{path}: expected {needed} bytes, got {actual}: the file is cut")
    if is_packed and _stated_length(image) != needed % (1 << 32):
        with gzip.open(image) as stream:  # cut, or compressed in several members
            actual = sum(len(part) for part in iter(lambda: stream.read(1 << 20), b""))
        if actual < needed:
            raise ValueError(f"{path}: expected {needed} bytes, got {actual}: the file is cut")


def _stated_length(file: Path) -> int:
    """Uncompressed bytes, modulo 2 ** 32, as stated at the end of a gzip file."""
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")
