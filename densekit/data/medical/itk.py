"""Reads MetaImage and NRRD with SimpleITK: axes (x, y, z) in LPS become (z, y, x) in RAS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit.data.medical.grids import LPS_TO_RAS, Grid, Volume, voxel_sizes

_HEADER = 4096
"""Bytes of a MetaImage that are searched for its orientation."""


def itk_grid(path: Path) -> Grid:
    """The grid of a file, from its header alone.

    Raises:
        ValueError: If the file is not a scalar volume, with its path.
    """
    reader = _reader(path)
    reader.ReadImageInformation()
    size = tuple(reader.GetSize())
    kind = need("SimpleITK", "reading ITK's formats").GetPixelIDValueAsString(
        reader.GetPixelIDValue()
    )
    if not 2 <= len(size) <= 4 or min(size) < 1 or "complex" in kind or "label" in kind:
        raise ValueError(
            f"{path}: expected integers or floats of shape (x, y), (x, y, z) or (x, y, z, C), got"
            f" {size} of {kind}"
        )
    x, y, z, more = (*size, 1, 1)[:4]
    affine = _affine(reader, min(len(size), 3), len(size))
    return Grid(
        path=str(path),
        kind="itk",
        shape=(z, y, x),
        channels=more * reader.GetNumberOfComponents(),
        spacing=voxel_sizes(affine, str(path)),
        affine=affine,
        is_placed=_is_placed(path, reader),
    )


def read_itk(path: Path) -> Volume:
    """Reads the stored values of a file.

    Raises:
        ValueError: If the file is damaged or not a scalar volume, with its path.
    """
    grid, reader = itk_grid(path), _reader(path)
    stored = need("SimpleITK", "reading ITK's formats").GetArrayFromImage(reader.Execute())
    components = reader.GetNumberOfComponents()  # the fastest axis; a 4th axis is the slowest
    image = np.moveaxis(stored.reshape(-1, *grid.shape, components), 0, -2)
    image = image.reshape(*grid.shape, grid.channels)
    return Volume(image=np.ascontiguousarray(image, np.float32), **vars(grid))


def _reader(path: Path) -> Any:
    itk = need("SimpleITK", f"{path}: reading ITK's formats")
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    return reader


def _affine(reader: Any, dims: int, axes: int) -> NDArray[Any]:
    """(4, 4) affine of the first `dims` axes; a 2-D image lies in the plane z = 0."""
    directions = np.reshape(reader.GetDirection(), (axes, axes))[:dims, :dims]
    lps = np.eye(4)
    lps[:dims, :dims] = directions * reader.GetSpacing()[:dims]
    lps[:dims, 3] = reader.GetOrigin()[:dims]
    affine: NDArray[Any] = LPS_TO_RAS @ lps
    return affine


def _is_placed(path: Path, reader: Any) -> bool:
    """Whether the header states the directions of the axes."""
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        return bool(reader.HasMetaDataKey("NRRD_space"))
    with path.open("rb") as stream:
        start = stream.read(_HEADER)
    return any(key in start for key in (b"TransformMatrix", b"Rotation", b"\nOrientation"))
