"""Reads NIfTI and Analyze: axes (x, y, z, C) become (z, y, x, C); writes masks back likewise."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator, Sequence
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

SLAB = 1 << 22
"""Voxels that are read or written at once."""
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


def write_nifti(
    path: Path,
    mask: NDArray[Any],
    like: Grid,
    stored: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
) -> None:
    """Writes a mask on the grid of a volume, atomically, converting a few slices at a time.

    Args:
        path: New file, `.nii` or `.nii.gz`.
        mask: (z, y, x) or (K, z, y, x).
        like: The volume that the mask belongs to.
        stored: Converts slices of the mask, z of any length, to the unsigned integers to store.
    """
    need("nibabel", "writing NIfTI")
    from nibabel.openers import ImageOpener

    first = stored(mask[..., :1, :, :])
    shape = (*first.shape[:-3], *mask.shape[-3:])
    if like.header is not None and like.header["dim"][0] == 2 and len(shape) == 3:
        shape = shape[1:]
    header = _mask_file(np.broadcast_to(first.dtype.type(0), shape[::-1]), like).header
    with replacing(path) as part, ImageOpener(str(part), "wb") as stream:
        header.write_to(stream)
        stream.write(bytes(header.get_data_offset() - stream.tell()))
        for channel in range(len(first)) if first.ndim == 4 else [...]:
            for rows in slabs_of(mask.shape[-3:]):
                planes = stored(mask[..., rows, :, :])
                values = planes[channel] if first.ndim == 4 else planes
                stream.write(values.astype(header.get_data_dtype()).tobytes())


def slabs_of(shape: Sequence[int]) -> Iterator[slice]:
    """Divides the first axis so that each part has about `SLAB` voxels."""
    rows = max(1, SLAB // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def nifti_slabs(path: Path) -> Iterator[tuple[int, slice, NDArray[Any]]]:
    """Reads the values of `read_nifti` slab by slab, in the order of the file.

    Yields:
        The channel, the range of z, and the values (n, y, x) float32.

    Raises:
        ValueError: If the file is damaged or not a scalar volume, with its path.
    """
    file = _open(path)
    grid, proxy = _grid(file, path), file.dataobj
    image = Path(file.file_map["image"].filename)
    packed = image.suffix.lower() == ".gz"
    plane = math.prod(grid.shape[1:])
    with gzip.open(image) if packed else image.open("rb") as stream:
        for channel in range(grid.channels):
            for rows in slabs_of(grid.shape):
                before = (channel * grid.shape[0] + rows.start) * plane * proxy.dtype.itemsize
                count = rows.stop - rows.start
                place = ((*grid.shape[:0:-1], count), proxy.dtype, proxy.offset + before)
                part = type(proxy)(stream, (*place, proxy.slope, proxy.inter), mmap=False)
                yield channel, rows, np.asanyarray(part, np.float32).transpose(2, 1, 0)
        if packed:  # its checksum stands at the end
            while stream.read(1 << 20):
                pass


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
