"""Reads DICOM series: slices sorted by position, values in the unit that the scanner states.

N slices of one series; LPS are DICOM's world coordinates (left, posterior, superior) in mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit._names import counted
from densekit.data.medical.dicom_files import (
    Header,
    check_length,
    given,
    image_headers,
    one_series,
)
from densekit.data.medical.grids import LPS_TO_RAS, Grid, Volume, voxel_sizes
from densekit.data.reading.files import reading

SAME_SPACING = 1e-3
"""Largest relative difference in pixel spacing between two slices of a series."""

SAME_DIRECTION = 1e-4
SQUARE = 1e-2
"""Tolerance of directions as unit vectors at right angles, because headers round them."""

SAME_PLACE = 1e-3
"""Slices nearer than this share of the largest distance are at the same place."""

UNEVEN = 0.02
"""Share of the distance by which a slice may be off its place: scanners round positions."""


@dataclass(frozen=True)
class Slice:
    """One image of a series: a file, or a frame of a file.

    Attributes:
        path: The file.
        frame: Its number in the file, from 0.
        size: Rows and columns.
        position: (3,) centre of the first voxel in LPS.
        directions: (2, 3) unit vectors along a row (growing column) and along a column.
        spacing: Millimetres between rows and between columns.
        thickness: Millimetres to the next slice by the header, used for a single slice only.
        slope: Factor from stored values to their unit.
        intercept: Offset added after the factor.
    """

    path: Path
    frame: int
    size: tuple[int, int]
    position: NDArray[Any]
    directions: NDArray[Any]
    spacing: tuple[float, float]
    thickness: float
    slope: float
    intercept: float

    @property
    def name(self) -> str:
        """The name of the slice in messages."""
        return f"{self.path.name}, frame {self.frame + 1}" if self.frame else self.path.name


def dicom_grid(path: Path, series: str | None = None) -> Grid:
    """The grid of a series, from headers alone; see `read_dicom`."""
    return _grid(_slices(path, series), path)


def read_dicom(path: Path, series: str | None = None) -> Volume:
    """Reads one series as a volume.

    Args:
        path: Folder of the slices, or one (multi-frame) file.
        series: SeriesInstanceUID or SeriesDescription, if the folder holds several series.

    Raises:
        ValueError: If there are several series, a file is cut, slices are missing, repeated,
            unevenly spaced, of different size or direction, in colour, or without a position; the
            message names the files.
    """
    slices = _slices(path, series)
    grid = _grid(slices, path)
    image = np.empty((*grid.shape, 1), dtype=np.float32)
    for target, (one, stored) in zip(image, _pixels(slices), strict=True):
        np.multiply(stored, np.float32(one.slope), out=target[..., 0], casting="unsafe")
        target += np.float32(one.intercept)
    return Volume(image=image, **vars(grid))


def _slices(path: Path, series: str | None) -> list[Slice]:
    """The slices of one series, sorted along their normal."""
    headers = one_series(image_headers(path), path, series)
    found: list[Slice] = []
    for header in headers:
        with reading(header.path, "DICOM header"):
            found += _slices_of(header)
    for other in found[1:]:
        _check_alike(path, found[0], other)
    positions = np.stack([one.position for one in found])
    normal = np.cross(*found[0].directions)
    order = np.argsort(positions @ normal, kind="stable")
    found = [found[i] for i in order]
    _check_even(path, [one.name for one in found], positions[order], normal)
    return found


def _check_alike(path: Path, first: Slice, other: Slice) -> None:
    tolerances = {"size": (0.0, 0.0), "directions": (0.0, SAME_DIRECTION)}
    tolerances["spacing"] = (SAME_SPACING, 0.0)
    for what, (share, most) in tolerances.items():
        here, there = getattr(first, what), getattr(other, what)
        if not np.allclose(here, there, rtol=share, atol=most):
            raise ValueError(
                f"{path}: expected slices of equal {what} in a series, got"
                f" {np.asarray(here).tolist()} in {first.name} and {np.asarray(there).tolist()} in"
                f" {other.name}"
            )


def _check_even(
    path: Path, names: Sequence[str], positions: NDArray[Any], normal: NDArray[Any]
) -> None:
    """Refuses repeated, missing or unevenly spaced slices.

    Args:
        path: Their folder.
        names: N names for the messages.
        positions: (N, 3) in order.
        normal: (3,) unit vector.

    Raises:
        ValueError: If slices are not even, with the two files between which it happens.
    """
    if len(names) < 2:
        return
    steps = np.diff(positions, axis=0)  # (N - 1, 3)
    gaps = steps @ normal
    double = int(gaps.argmin())
    if gaps[double] <= SAME_PLACE * gaps.max():
        raise ValueError(
            f"{path}: expected slices at different positions, got {names[double]} and"
            f" {names[double + 1]} at the same one; remove copies, and give each of several echoes"
            " or times in one series its own folder"
        )
    usual = float(np.median(gaps))
    off = np.linalg.norm(steps - np.median(steps, axis=0), axis=1)
    worst = int(off.argmax())
    if off[worst] <= UNEVEN * usual:
        return
    between = f"between {names[worst]} and {names[worst + 1]}"
    missing = round(gaps[worst] / usual) - 1
    if missing > 0 and abs(gaps[worst] - (missing + 1) * usual) <= UNEVEN * gaps[worst]:
        raise ValueError(
            f"{path}: expected slices every {usual:.4g} mm, got {gaps[worst]:.4g} mm {between}:"
            f" {counted(missing, 'slice')} missing"
        )
    raise ValueError(
        f"{path}: expected even steps of {_shown(np.median(steps, axis=0))} mm, got"
        f" {_shown(steps[worst])} {between}; resample the series onto an even grid first"
    )


def _shown(step: NDArray[Any]) -> list[float]:
    return [float(f"{value:.4g}") for value in step]


def _grid(slices: Sequence[Slice], path: Path) -> Grid:
    first, last = slices[0], slices[-1]
    across = np.cross(*first.directions) * first.thickness
    if len(slices) > 1:
        across = (last.position - first.position) / (len(slices) - 1)
    lps = np.eye(4)
    lps[:3, 0] = first.directions[0] * first.spacing[1]
    lps[:3, 1] = first.directions[1] * first.spacing[0]
    lps[:3, 2] = across
    lps[:3, 3] = first.position
    affine = LPS_TO_RAS @ lps
    return Grid(
        path=str(path),
        kind="dicom",
        shape=(len(slices), *first.size),
        channels=1,
        spacing=voxel_sizes(affine, str(path)),
        affine=affine,
    )


def _slices_of(header: Header) -> Iterator[Slice]:
    """The slices in one file: one, or the frames of an enhanced object."""
    path, tags = header.path, header.tags
    colours, kind = given(tags, "SamplesPerPixel", 1), given(tags, "PhotometricInterpretation")
    if colours != 1 or not str(kind).startswith("MONOCHROME"):
        raise ValueError(
            f"{path}: expected a grey image (MONOCHROME), got colour"
            f" ({kind or 'PhotometricInterpretation missing'})"
        )
    if given(tags, "ModalityLUTSequence"):
        raise ValueError(f"{path}: expected slope and intercept, got a modality lookup table")
    frames = int(given(tags, "NumberOfFrames", 1))
    if groups := given(tags, "PerFrameFunctionalGroupsSequence"):
        if len(groups) != frames:
            raise ValueError(
                f"{path}: expected one functional group per frame, got {len(groups)} for {frames}"
            )
        check_length(header, frames)
        shared = given(tags, "SharedFunctionalGroupsSequence", [{}])
        for number, own in enumerate(groups):
            yield _slice(path, tags, number, (own, shared[0]))
    elif frames > 1:
        raise ValueError(
            f"{path}: expected one slice per file, or PerFrameFunctionalGroupsSequence (enhanced"
            f" objects), got {frames} frames without positions"
        )
    else:
        check_length(header, 1)
        yield _slice(path, tags, 0, ())


def _slice(path: Path, tags: Any, number: int, groups: Sequence[Any]) -> Slice:
    def numbers(key: str, sequence: str, count: int, default: Any = None) -> NDArray[Any]:
        """The tag of the frame's functional groups, or of the header itself."""
        sequences = [given(group, sequence) for group in groups]
        holders = [*(items[0] for items in sequences if items), tags]
        candidates = [given(holder, key) for holder in holders]
        value = next((value for value in candidates if value is not None), default)
        if value is None:
            raise ValueError(f"{path}: frame {number + 1}: expected {key}, got none")
        values = np.asarray(value, dtype=np.float64).reshape(-1)
        if len(values) != count or not np.isfinite(values).all():
            expected = counted(count, "finite number")
            raise ValueError(f"{path}: frame {number + 1}: {key}: expected {expected}, got {value}")
        return values

    size = (int(given(tags, "Rows", 0)), int(given(tags, "Columns", 0)))
    if min(size) < 1:
        raise ValueError(f"{path}: expected rows and columns, got {size[0]} and {size[1]}")
    directions = numbers("ImageOrientationPatient", "PlaneOrientationSequence", 6).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > SQUARE:
        raise ValueError(
            f"{path}: ImageOrientationPatient: expected two unit vectors at right angles, got"
            f" {directions.tolist()}"
        )
    spacing = numbers("PixelSpacing", "PixelMeasuresSequence", 2)
    if spacing.min() <= 0:
        raise ValueError(f"{path}: PixelSpacing: expected more than 0, got {spacing.tolist()}")
    [thickness] = numbers("SliceThickness", "PixelMeasuresSequence", 1, 1.0)
    [between] = numbers("SpacingBetweenSlices", "PixelMeasuresSequence", 1, thickness)
    [slope] = numbers("RescaleSlope", "PixelValueTransformationSequence", 1, 1.0)
    if not slope:
        raise ValueError(f"{path}: RescaleSlope: expected a number other than 0, got 0")
    [intercept] = numbers("RescaleIntercept", "PixelValueTransformationSequence", 1, 0.0)
    return Slice(
        path=path,
        frame=number,
        size=size,
        position=numbers("ImagePositionPatient", "PlanePositionSequence", 3),
        directions=directions,
        spacing=(float(spacing[0]), float(spacing[1])),
        thickness=abs(float(between or thickness or 1.0)),
        slope=float(slope),
        intercept=float(intercept),
    )


def _pixels(slices: Sequence[Slice]) -> Iterator[tuple[Slice, NDArray[Any]]]:
    """Yields each slice with its stored values; a file of many frames is decoded once."""
    pydicom = need("pydicom", "reading DICOM")
    path, frames = None, np.empty(0)
    for one in slices:
        if one.path != path:
            path = one.path
            try:
                frames = pydicom.dcmread(path).pixel_array
            # pydicom has no class of its own for what a decoder may throw
            except Exception as error:
                raise ValueError(f"{path}: expected decodable pixels, got {error}") from error
        yield one, frames if frames.ndim == 2 else frames[one.frame]
