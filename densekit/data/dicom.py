"""DICOM series: slices in the order of the anatomy, values in the unit that the scanner states.

N slices of one series; LPS is DICOM's world (left, posterior, superior), in millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.dicom_order import check_even, in_order
from densekit.data.extras import need
from densekit.data.grids import Grid, Volume, voxel_sizes

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", "")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """One picture of a series: a file, or a frame of a file.

    Attributes:
        path: The file.
        frame: Its number in the file, from 0.
        size: Rows and columns.
        position: (3,) LPS place of the first voxel's centre.
        directions: (2, 3) unit vectors along a row (growing column) and along a column.
        spacing: Millimetres between rows and between columns.
        thickness: Millimetres to the next slice as the header says, used for a single slice only.
        slope: Factor from the stored value to its unit.
        intercept: Added after the factor.
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
        """How messages call it."""
        return f"{self.path.name}, frame {self.frame + 1}" if self.frame else self.path.name


def dicom_grid(path: Path, series: str | None = None) -> Grid:
    """The frame of a series, from headers alone; see `read_dicom`."""
    return _grid(_slices(path, series), path)


def read_dicom(path: Path, series: str | None = None) -> Volume:
    """Reads one series as a volume.

    Args:
        path: Folder of the slices, or one (multi-frame) file.
        series: SeriesInstanceUID, where the folder holds several.

    Raises:
        ValueError: For several series, slices that are missing, double, unevenly spaced or of
            different size or direction, colour, and whatever lacks its place in space; it names
            the files.
    """
    slices = _slices(path, series)
    grid = _grid(slices, path)
    image = np.empty((*grid.shape, 1), dtype=np.float32)
    for place, (one, stored) in zip(image, _pixels(slices), strict=True):
        np.multiply(stored, np.float32(one.slope), out=place[..., 0], casting="unsafe")
        place += np.float32(one.intercept)
    return Volume(image=image, **vars(grid))


def _slices(path: Path, series: str | None) -> list[Slice]:
    """The slices of one series along their normal."""
    files = _one_series(_headers(path), path, series)
    found = [one for file, header in files for one in _slices_of(file, header)]
    first = found[0]
    for other in found[1:]:
        for what in ("size", "directions", "spacing"):
            here, there = getattr(first, what), getattr(other, what)
            if not np.allclose(here, there, rtol=1e-4, atol=1e-4):
                raise ValueError(
                    f"{path}: {first.name} and {other.name} are of one series but differ in"
                    f" {what}: {np.asarray(here).tolist()} and {np.asarray(there).tolist()}"
                )
    positions = np.stack([one.position for one in found])
    order = in_order(positions, np.cross(*first.directions))
    found = [found[i] for i in order]
    check_even(path, [one.name for one in found], positions[order], np.cross(*first.directions))
    return found


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
    affine = _LPS_TO_RAS @ lps
    return Grid(
        path=str(path),
        kind="dicom",
        shape=(len(slices), *first.size),
        channels=1,
        spacing=voxel_sizes(affine, str(path)),
        affine=affine,
    )


def _headers(path: Path) -> list[tuple[Path, Any]]:
    """Every picture of a folder (or one file) with its header."""
    pydicom = need("pydicom", f"{path}: reading DICOM")
    headers = []
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if not file.is_file() or file.name.startswith(".") or file.name.upper() == "DICOMDIR":
            continue
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, EOFError, OSError) as error:
            if file.suffix.lower() in _DICOM_SUFFIXES:
                raise ValueError(f"{file}: not a readable DICOM file: {error}") from error
            continue
        if "Rows" in header:  # a report or a plan is no picture
            headers.append((file, header))
    if not headers:
        inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
        raise ValueError(f"{path}: no DICOM picture in this folder, it holds {inside}")
    return headers


def _one_series(
    headers: Sequence[tuple[Path, Any]], path: Path, series: str | None
) -> list[tuple[Path, Any]]:
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for file, header in headers:
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    if series is not None:
        if series not in groups:
            raise ValueError(f"{path}: {unknown('series', series, groups)}")
        return groups[series]
    if len(groups) > 1:
        rows = [
            f"{uid} ({group[0][1].get('SeriesDescription', 'no description')}, {len(group)} files)"
            for uid, group in groups.items()
        ]
        raise ValueError(
            f"{path}: {len(groups)} series in one folder, give each a folder of its own (in Python,"
            f" series= chooses one): {'; '.join(rows)}"
        )
    return next(iter(groups.values()))


def _slices_of(path: Path, header: Any) -> Iterator[Slice]:
    """The slices in one file: one, or the frames of an enhanced object."""
    colours, kind = header.get("SamplesPerPixel", 1), header.get("PhotometricInterpretation", "")
    if colours != 1 or not str(kind).startswith("MONOCHROME"):
        raise ValueError(f"{path}: a colour picture ({kind}), accepted are grey ones (MONOCHROME)")
    if "ModalityLUTSequence" in header:
        raise ValueError(f"{path}: values by a modality table, accepted are slope and intercept")
    if "PerFrameFunctionalGroupsSequence" in header:
        shared = header.get("SharedFunctionalGroupsSequence") or [{}]
        for number, own in enumerate(header.PerFrameFunctionalGroupsSequence):
            yield _slice(path, header, number, (own, shared[0]))
    elif int(header.get("NumberOfFrames") or 1) > 1:
        raise ValueError(
            f"{path}: {header.NumberOfFrames} frames without a place for each; accepted are"
            " enhanced objects (PerFrameFunctionalGroupsSequence) and one slice a file"
        )
    else:
        yield _slice(path, header, 0, ())


def _slice(path: Path, header: Any, number: int, groups: Sequence[Any]) -> Slice:
    def numbers(key: str, sequence: str, default: Any = None) -> Any:
        """The tag out of the frame's groups, or of the header itself."""
        for group in groups:
            if sequence in group and key in group[sequence][0]:
                return group[sequence][0][key].value
        value = header.get(key, default)
        if value is None:
            raise ValueError(f"{path}: frame {number + 1} lacks {key}: its place is not known")
        return value

    position = numbers("ImagePositionPatient", "PlanePositionSequence")
    directions = numbers("ImageOrientationPatient", "PlaneOrientationSequence")
    rows, columns = numbers("PixelSpacing", "PixelMeasuresSequence")
    thickness = numbers("SliceThickness", "PixelMeasuresSequence", 1.0) or 1.0
    thickness = numbers("SpacingBetweenSlices", "PixelMeasuresSequence", thickness) or thickness
    slope = numbers("RescaleSlope", "PixelValueTransformationSequence", 1.0)
    intercept = numbers("RescaleIntercept", "PixelValueTransformationSequence", 0.0)
    return Slice(
        path=path,
        frame=number,
        size=(int(header.Rows), int(header.Columns)),
        position=np.asarray(position, dtype=np.float64),
        directions=np.asarray(directions, dtype=np.float64).reshape(2, 3),
        spacing=(float(rows), float(columns)),
        thickness=abs(float(thickness)),
        slope=float(slope),
        intercept=float(intercept),
    )


def _pixels(slices: Sequence[Slice]) -> Iterator[tuple[Slice, NDArray[Any]]]:
    """Each slice with its stored values; a file of many frames is decoded once."""
    pydicom = need("pydicom", "reading DICOM")
    path, frames = None, np.empty(0)
    for one in slices:
        if one.path != path:
            path = one.path
            try:
                frames = pydicom.dcmread(path).pixel_array
            # pydicom has no class of its own for what a decoder may throw
            except Exception as error:
                raise ValueError(f"{path}: the picture cannot be decoded: {error}") from error
        yield one, frames if frames.ndim == 2 else frames[one.frame]
