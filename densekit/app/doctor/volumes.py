"""What a volume file, or a folder of DICOM slices, holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densekit.app.doctor.facts import Volume
from densekit.app.doctor.masks import MOST
from densekit.app.doctor.pictures import digest
from densekit.data.medical.dicom_files import Header, given, image_headers
from densekit.data.medical.grids import Grid, orientation_of
from densekit.data.medical.nifti import two_frames
from densekit.data.medical.volume_files import SUFFIXES, has_suffix
from densekit.data.medical.volumes import decode_volume, read_grid
from densekit.data.segmentation.classes import count_values

UNEVEN = 1.5
"""Distance between neighbouring slices, relative to the usual one, from which some are missing."""


def volume_of(path: Path, is_mask: bool = False) -> Volume:
    """Reads a volume; never raises for a broken one.

    Args:
        path: The file or folder.
        is_mask: Whether the values of its voxels are counted.
    """
    if not path.exists():
        return Volume(error="no such file", missing=True)
    series = {} if not path.is_dir() and has_suffix(path, SUFFIXES) else _series(path)
    try:
        geometry = _geometry(read_grid(path))
    except ValueError as error:
        return Volume(error=str(error).removeprefix(f"{path}: "), **series)
    try:
        image = decode_volume(path).image
    except ValueError as error:
        return Volume(error=str(error).removeprefix(f"{path}: "), **geometry, **series)
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    values = count_values(finite.round().astype(np.int64)) if is_mask else {}
    most = sorted(values.items(), key=lambda pair: -pair[1])[:MOST]
    return Volume(
        **geometry,
        **series,
        infinite=int(image.size - finite.size),
        low=float(low),
        high=float(high),
        spread=float(finite.std()) if finite.size else 0.0,
        fractions=bool((finite != finite.round()).any()),
        values=dict(sorted(most)),
        content=digest(image),
    )


def _geometry(grid: Grid) -> dict[str, Any]:
    unit = "mm" if grid.header is None else str(grid.header.get_xyzt_units()[0])
    return {
        "shape": tuple(grid.shape),
        "spacing": tuple(float(step) for step in grid.spacing),
        "orientation": orientation_of(grid),
        "affine": tuple(float(value) for value in grid.affine.ravel()),
        "channels": grid.channels,
        "placed": grid.is_placed,
        "frames_differ": (two_frames(grid) or "").removeprefix(f"{grid.path}: "),
        "unit": "" if unit == "unknown" else unit,
    }


def _series(path: Path) -> dict[str, Any]:
    """Number of DICOM series in a folder, and where slices of the only one are missing."""
    try:
        headers = image_headers(path)
    except ValueError:
        return {}
    uids = {str(given(header.tags, "SeriesInstanceUID", "")) for header in headers}
    return {"series": len(uids), "gap": _gap(headers) if len(uids) == 1 else ""}


def _gap(headers: list[Header]) -> str:
    """Between which two slices others are missing, empty if none are."""
    try:
        normal = np.cross(
            *np.reshape(headers[0].tags.ImageOrientationPatient, (2, 3)).astype(float)
        )
        heights = [float(np.dot(normal, header.tags.ImagePositionPatient)) for header in headers]
    except (AttributeError, TypeError, ValueError):  # no positions, or no numbers
        return ""
    order = np.argsort(heights)
    steps = np.diff(np.asarray(heights)[order])
    if len(steps) < 2 or steps.max() < UNEVEN * np.median(steps):
        return ""
    at = int(steps.argmax())
    names = [headers[order[at + offset]].path.name for offset in (0, 1)]
    return f"{steps.max():.4g} mm between {names[0]} and {names[1]}, usually {np.median(steps):.4g}"
