"""Volumes and their masks: geometry, series, values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from densekit.app.doctor.checks.outliers import minority, outliers
from densekit.app.doctor.facts import Example, Part, Study, Volume
from densekit.app.doctor.findings import Hit, Severity, check, of_example
from densekit.data.medical.grids import SAME_GRID, grid_distance

FAR = 8.0
"""Robust standard deviations from which a spacing or a size is unusual."""
THICK = 5.0
"""Largest over smallest spacing from which a volume is anisotropic, if the others are not."""

Row = tuple[Part, Example, Path, Volume]


def _rows(study: Study) -> list[Row]:
    """Every volume with its file, without masks."""
    return [
        (part, example, file, volume)
        for part, example in study.each()
        for file, volume in zip(example.files, example.volumes, strict=True)
    ]


def _masks(study: Study) -> list[Row]:
    return [
        (part, example, file, volume)
        for part, example in study.each()
        if example.files
        for file, volume in zip(filter(None, example.mask_files), example.volume_masks, strict=True)
    ]


def _each(rows: Sequence[Row], wrong: Callable[[Volume], str]) -> Iterator[Hit]:
    for part, example, file, volume in rows:
        if message := wrong(volume):
            yield of_example(part, example, message, file)


def _sound(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row[3].shape]


@check(Severity.ERROR)
def missing_volume(study: Study) -> Iterator[Hit]:
    """A volume or its mask that does not exist."""
    every = [*_rows(study), *_masks(study)]
    return _each(every, lambda volume: volume.error if volume.missing else "")


@check(Severity.ERROR)
def broken_volume(study: Study) -> Iterator[Hit]:
    """A volume or a mask that cannot be read."""

    def wrong(volume: Volume) -> str:
        told = volume.missing or volume.series > 1 or volume.gap
        return "" if told else volume.error

    return _each([*_rows(study), *_masks(study)], wrong)


@check(Severity.ERROR)
def mixed_series(study: Study) -> Iterator[Hit]:
    """A DICOM folder that holds several series."""
    every = [*_rows(study), *_masks(study)]
    return _each(every, lambda v: f"{v.series} series; choose one by `series`" * (v.series > 1))


@check(Severity.ERROR)
def missing_slices(study: Study) -> Iterator[Hit]:
    """A DICOM series with missing slices."""
    return _each([*_rows(study), *_masks(study)], lambda volume: volume.gap)


@check(Severity.WARNING)
def mixed_orientations(study: Study) -> Iterator[Hit]:
    """A few volumes stored in another orientation than the others."""
    rows = _sound(_rows(study))
    for place in minority([volume.orientation for *_, volume in rows], share=0.5):
        part, example, file, volume = rows[place]
        yield of_example(part, example, volume.orientation, file)


@check(Severity.WARNING)
def spacing_outlier(study: Study) -> Iterator[Hit]:
    """A volume whose spacing is far from that of the others."""
    rows = _sound(_rows(study))
    odd = {
        place for axis in range(3) for place in outliers([r[3].spacing[axis] for r in rows], FAR)
    }
    for place in sorted(odd):
        part, example, file, volume = rows[place]
        spacing = " x ".join(f"{step:.3g}" for step in volume.spacing)
        yield of_example(part, example, f"{spacing} mm (z, y, x)", file)


@check(Severity.NOTE)
def volume_size_outlier(study: Study) -> Iterator[Hit]:
    """A volume of far more or fewer voxels than the others."""
    rows = _sound(_rows(study))
    for place in outliers([float(np.prod(volume.shape)) for *_, volume in rows], FAR):
        part, example, file, volume = rows[place]
        yield of_example(part, example, " x ".join(map(str, volume.shape)), file)


@check(Severity.WARNING)
def frames_differ(study: Study) -> Iterator[Hit]:
    """An sform and a qform that place the volume differently."""
    return _each([*_rows(study), *_masks(study)], lambda volume: volume.frames_differ)


@check(Severity.WARNING)
def orientation_unknown(study: Study) -> Iterator[Hit]:
    """A volume that does not state its orientation: left and right are a guess."""
    message = "neither sform nor qform is set"
    return _each(_sound(_rows(study)), lambda volume: "" if volume.placed else message)


@check(Severity.NOTE)
def mixed_units(study: Study) -> Iterator[Hit]:
    """A few volumes whose unit of length is another one than the others'."""
    rows = _sound(_rows(study))
    for place in minority([volume.unit for *_, volume in rows]):
        part, example, file, volume = rows[place]
        yield of_example(part, example, volume.unit or "no unit", file)


@check(Severity.ERROR)
def volume_mask_size(study: Study) -> Iterator[Hit]:
    """A mask of another shape than its volume."""
    for part, example, file, volume, mask in _pairs(study):
        if volume.shape != mask.shape:
            shapes = (" x ".join(map(str, one.shape)) for one in (mask, volume))
            yield of_example(part, example, "{}, its volume {}".format(*shapes), file)


@check(Severity.ERROR)
def volume_mask_moved(study: Study) -> Iterator[Hit]:
    """A mask whose voxels are at other positions than those of its volume."""
    for part, example, file, volume, mask in _pairs(study):
        if volume.shape != mask.shape:
            continue
        here, there = (np.reshape(one.affine, (4, 4)) for one in (volume, mask))
        distance = grid_distance(here, there, tuple(volume.shape))
        if distance > SAME_GRID:
            yield of_example(part, example, f"up to {distance:.3g} voxels away", file)


def _pairs(study: Study) -> Iterator[tuple[Part, Example, Path, Volume, Volume]]:
    """Each readable mask with its readable volume."""
    for part, example, file, mask in _sound(_masks(study)):
        if example.volumes and example.volumes[0].shape:
            yield part, example, file, example.volumes[0], mask


@check(Severity.ERROR)
def voxels_not_finite(study: Study) -> Iterator[Hit]:
    """A volume with voxels that are NaN or infinite."""
    every = [*_rows(study), *_masks(study)]
    return _each(every, lambda volume: f"{volume.infinite} voxels" * bool(volume.infinite))


@check(Severity.WARNING)
def constant_volume(study: Study) -> Iterator[Hit]:
    """A volume of a single value."""
    rows = [row for row in _sound(_rows(study)) if row[3].content]
    return _each(rows, lambda volume: "" if volume.spread else "every voxel is equal")


@check(Severity.ERROR)
def mixed_channels(study: Study) -> Iterator[Hit]:
    """A volume of another number of channels than the others."""
    rows = _sound(_rows(study))
    for place in minority([volume.channels for *_, volume in rows], share=0.5):
        part, example, file, volume = rows[place]
        yield of_example(part, example, f"{volume.channels} channels", file)


@check(Severity.WARNING)
def mixed_scales(study: Study) -> Iterator[Hit]:
    """A volume with negative values among volumes without, or the reverse."""
    rows = [row for row in _sound(_rows(study)) if row[3].content]
    signs = [volume.low < -0.01 * abs(volume.high) for *_, volume in rows]
    for place in minority(signs):
        part, example, file, volume = rows[place]
        yield of_example(part, example, f"values {volume.low:.4g} to {volume.high:.4g}", file)


@check(Severity.NOTE)
def anisotropic_volume(study: Study) -> Iterator[Hit]:
    """A volume far more anisotropic than the others."""
    rows = _sound(_rows(study))
    ratios = [max(volume.spacing) / min(volume.spacing) for *_, volume in rows]
    usual = median(ratios) if ratios else 0.0
    for (part, example, file, _), ratio in zip(rows, ratios, strict=True):
        if len(rows) >= 5 and ratio >= THICK * usual:
            yield of_example(part, example, f"{ratio:.3g} to 1, usually {usual:.3g}", file)


@check(Severity.ERROR)
def mask_with_fractions(study: Study) -> Iterator[Hit]:
    """A mask of a volume with fractions, as resampling leaves behind."""
    message = "values that are not whole numbers"
    return _each(_masks(study), lambda mask: message if mask.fractions else "")


@check(Severity.ERROR)
def unknown_volume_label(study: Study) -> Iterator[Hit]:
    """A mask of a volume with values that are no class."""
    for part, example, file, mask in _masks(study):
        odd = {value: n for value, n in mask.values.items() if value not in part.values}
        if odd and part.values and not mask.fractions:
            listed = ", ".join(f"{value} ({n} voxels)" for value, n in list(odd.items())[:5])
            yield of_example(part, example, f"{listed}; known are {sorted(part.values)}", file)


@check(Severity.NOTE)
def empty_volume_mask(study: Study) -> Iterator[Hit]:
    """A mask of a volume without foreground."""
    rows = [row for row in _masks(study) if not row[3].fractions]
    return _each(rows, lambda mask: "0 everywhere" if list(mask.values) == [0] else "")


CHECKS = (
    missing_volume,
    broken_volume,
    mixed_series,
    missing_slices,
    mixed_orientations,
    spacing_outlier,
    volume_size_outlier,
    frames_differ,
    orientation_unknown,
    mixed_units,
    volume_mask_size,
    volume_mask_moved,
    voxels_not_finite,
    constant_volume,
    mixed_channels,
    mixed_scales,
    anisotropic_volume,
    mask_with_fractions,
    unknown_volume_label,
    empty_volume_mask,
)
