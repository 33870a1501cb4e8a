"""Medical volumes with masks, turned and resampled for the loss and as stored for metrics.

z, y, x the axes of a volume, C its channels, K classes.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import counted
from densekit.data.medical.axes import (
    axes_to,
    back,
    check_orientation,
    turned,
    turned_mask,
    turned_sides,
)
from densekit.data.medical.cache import Arrays, cached, entry_key
from densekit.data.medical.grids import Grid, check_same_grid, orientation_of
from densekit.data.medical.labels import LabelTable
from densekit.data.medical.layouts import Case, Names, find_layout
from densekit.data.medical.nifti import two_frames
from densekit.data.medical.resample import network_frame, resample_mask, resampled_size
from densekit.data.medical.volumes import read_channels, read_channels_grid, read_grid, read_volume
from densekit.data.protocols import Dataset, StoredMasks
from densekit.data.reading.intensity import check_channels, check_rule
from densekit.data.splits import SplitRule
from densekit.types import IGNORE_INDEX, Meta, Sample, Truth

_log = logging.getLogger("densekit.data")


class MedicalVolumes(Dataset):
    """A data set of NIfTI, DICOM, MetaImage or NRRD volumes with masks.

    The headers of all files are checked at construction: a missing file, a differing number of
    channels and a mask on another grid than its volume are refused.

    Args:
        root: A folder with `dataset.json` (MSD, or nnU-Net's raw layout), a folder with `images`
            and `masks` (files, or folders with one DICOM series each, of equal names), a folder
            with one folder per patient (`P1/flair.nii.gz` or `P1/P1_flair.nii.gz`,
            `P1/seg.nii.gz`), or a table `.csv` with the columns `image` (or one per channel:
            `image_0`, `image_1`, ...), `mask` and optionally `patient`, paths relative to the
            table.
        split: "train", "val" or "test" by `splits`, or "all".
        splits: How patients are divided; the group is the patient.
        channels: Names of the channels if they differ from the above: image folders, columns of the
            table, or files of each patient; by default all files that are not masks.
        mask: Name of the masks, likewise.
        roi: Name of masks of the region of interest (in `dataset.json` a key of each pair, or a
            folder); voxels where they are 0 are ignored in losses and metrics.
        series: SeriesInstanceUID or SeriesDescription of the images, if DICOM folders hold several;
            `*` and `?` are wildcards.
        labels: Class name to stored value, e.g. `{background: 0, tumour: 1}`; required without a
            `dataset.json`. See `LabelTable`.
        regions_class_order: As in nnU-Net: the value with which each region is written, in this
            order, when predictions are merged into one label map; by default that of
            `dataset.json`, and without it one plane per region is written.
        intensity: The rule that scales stored values, see `scale`; None leaves them.
        orientation: The directions of x, y and z, e.g. "RAS": right, anterior, superior. Other
            volumes are turned when read (an oblique one by its nearest axes), so that z, y, x mean
            the same everywhere; results and truth are in each file's own axes. None keeps the axes
            as stored, for volumes without an orientation.
        spacing: Millimetres along z, y, x that volumes are resampled to; None, or None for an axis,
            keeps it as stored.
        cache: Folder for prepared volumes, which are then memory-mapped; None prepares them every
            time. Changed files or settings make new entries; old ones are never deleted.

    Attributes:
        names: Class names in the order of their labels.
        ids: The stored value of each class.
        cases: The cases of the split.
        grids: Their stored grids, for writing masks back.
        modalities: What each channel is according to `dataset.json`, empty without one.
        cache: Folder of prepared volumes, None without one.

    Raises:
        ValueError: If a file or an argument is invalid; the message names it.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        splits: SplitRule | None = None,
        channels: Sequence[str] = (),
        mask: str | None = None,
        roi: str | None = None,
        series: str | None = None,
        labels: Mapping[str, Any] | None = None,
        regions_class_order: Sequence[int] = (),
        intensity: Mapping[str, Any] | None = None,
        orientation: str | None = "RAS",
        spacing: Sequence[float | None] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        layout = find_layout(Path(root), _names(channels, mask, roi))
        self._labels = _labels(layout.labels, labels, layout.source)
        self._order = _checked_order(
            list(regions_class_order or layout.regions_class_order), self._labels
        )
        self._intensity = check_rule(intensity)
        self._orientation = check_orientation(orientation, "MedicalVolumes.orientation")
        self._spacing = _checked_spacing(spacing)
        self.cache = None if cache is None else Path(cache)
        self._series = series
        self.names, self.ids = self._labels.names, self._labels.ids
        patients = _patients(layout.cases, splits)
        chosen = _members(layout.cases, split, splits, patients)
        self.cases = [layout.cases[i] for i in chosen]
        self._patients = [patients[i] for i in chosen]
        self._image_ids = chosen
        self.grids = [_checked_grid(case, series) for case in self.cases]
        self._axes = [axes_to(grid, self._orientation) for grid in self.grids]
        rule = [self._intensity, self._spacing, self._labels.key, self._orientation, series]
        self._keys = [entry_key(case.files, rule) for case in self.cases]
        self.channels = self.grids[0].channels
        self._check_sizes()
        _check_channels(self.grids)
        check_channels(self._intensity, self.channels)
        named = layout.modalities
        self.modalities = named if len(named) == self.channels else ()
        _warn_of_frames(self.grids)
        if self._orientation is None:
            _warn_of_orientations(self.grids)

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 3) sizes z, y, x of the volumes in the declared orientation, not resampled."""
        turned = [
            turned_sides(grid.shape, axes)
            for grid, axes in zip(self.grids, self._axes, strict=True)
        ]
        return np.asarray(turned, dtype=np.int64)

    @property
    def spacing(self) -> tuple[float | None, ...] | None:
        """The common spacing along z, y, x; None if volumes are not resampled."""
        return self._spacing

    def describe(self) -> dict[str, Any]:
        """Plain values that configure the model: classes, channels, preparation of volumes."""
        described: dict[str, Any] = {
            "names": list(self.names),
            "ids": list(self.ids),
            "num_classes": len(self.names),
            "channels": self.channels,
            "dtype": "float32",
            "background": self._labels.background,
            "multilabel": self._labels.multilabel,
            "spatial_dims": 3,
            "orientation": self._orientation,
        }
        if self._order:
            described["regions_class_order"] = list(self._order)
        if self._intensity is not None:
            described["intensity"] = dict(self._intensity)
        if self._spacing is not None:
            described["spacing"] = list(self._spacing)
        return described

    def path(self, index: int) -> Path:
        """The file or DICOM folder of a volume, the first one of several channels."""
        return Path(self.grids[index].path)

    def voxel(self, index: int) -> tuple[float, ...]:
        """Spacing along z, y, x in the declared orientation, not resampled, in millimetres."""
        return turned_sides(self.grids[index].spacing, self._axes[index])

    def arrays(self, index: int) -> Arrays:
        """`image` (z', y', x', C) and `mask` as the network sees them, `truth` not resampled."""
        names = ("image", "mask") if self._spacing is None else ("image", "mask", "truth")
        made = cached(self.cache, self._keys[index], names, lambda: self._prepare(index))
        return {"truth": made["mask"], **made}

    def stored_masks(self) -> StoredMasks:
        """The masks as stored, one per volume."""
        return StoredMasks(self.stored_mask, np.arange(len(self)))

    def stored_mask(self, index: int) -> NDArray[Any]:
        """(z, y, x) or (K, z, y, x) uint8 mask in its stored axes, without reading the volume.

        Raises:
            ValueError: If a file cannot be read or the mask has a value of no class.
        """
        case = self.cases[index]
        mask = self._labels.encode(read_volume(case.mask).image[..., 0], str(case.mask))
        if case.roi is not None:
            mask[..., read_volume(case.roi).image[..., 0] == 0] = IGNORE_INDEX
        return mask

    def __getitem__(self, index: int) -> Sample:
        """The volume and its mask as the network sees them, and the stored mask as `truth`.

        Raises:
            ValueError: If a file cannot be read or the mask has a value of no class.
        """
        grid, axes, image_id = self.grids[index], self._axes[index], self._image_ids[index]
        arrays = self.arrays(index)
        return Sample(
            image=arrays["image"],
            mask=arrays["mask"],
            index=index,
            meta=Meta(path=grid.path, image_id=image_id, original_size=grid.shape, axes=axes),
            truth=Truth(
                image_id=image_id,
                size=grid.shape,
                mask=turned_mask(arrays["truth"], back(axes)),
                spacing=grid.spacing,
                group=self._patients[index],
            ),
        )

    def _check_sizes(self) -> None:
        for index, (grid, sides) in enumerate(zip(self.grids, self.sizes.tolist(), strict=True)):
            try:
                resampled_size(sides, self.voxel(index), self._spacing)
            except ValueError as error:
                raise ValueError(f"{grid.path}: {error}") from error

    def _prepare(self, index: int) -> Arrays:
        case, axes = self.cases[index], self._axes[index]
        volume = turned(read_channels(case.images, self._series).image, axes)
        truth = turned_mask(self.stored_mask(index), axes)
        image = network_frame(volume, self.voxel(index), self._intensity, self._spacing)
        mask = resample_mask(truth, image.shape[:-1])
        return {"image": image, "mask": mask, "truth": truth}


def _patients(cases: Sequence[Case], splits: SplitRule | None) -> list[str]:
    """The patient of each case; without any rule each case is one."""
    return [case.patient or (splits.group_of(case.name) if splits else case.name) for case in cases]


def _members(
    cases: Sequence[Case], split: str, splits: SplitRule | None, patients: Sequence[str]
) -> list[int]:
    if splits is None:
        if split != "all":
            raise ValueError(
                f"MedicalVolumes.split: expected 'all' without `splits`, got {split!r}; `splits`"
                " says how patients are divided"
            )
        return list(range(len(cases)))
    _warn_of_folders(cases, patients)
    return splits.members(split, patients)


def _warn_of_folders(cases: Sequence[Case], patients: Sequence[str]) -> None:
    """Warns if cases of one folder, perhaps sessions of one patient, count as patients."""
    pairs = zip(cases, patients, strict=True)
    inside = [patient for case, patient in pairs if "/" in patient and patient == case.name]
    tops = Counter(patient.partition("/")[0] for patient in inside)
    shared = [top for top, count in tops.items() if count > 1]
    if shared:
        _log.warning(
            "%d cases in the folder %s count as one patient each; if they are of the same patient,"
            " SplitRule.group: '([^/]+)/' keeps them in one split",
            *(tops[shared[0]], shared[0]),
        )


def _names(channels: Sequence[str], mask: str | None, roi: str | None) -> Names:
    if isinstance(channels, str):
        raise TypeError(f"MedicalVolumes.channels: expected a list of names, got {channels!r}")
    return Names(tuple(channels), mask, roi)


def _checked_grid(case: Case, series: str | None) -> Grid:
    grid = read_channels_grid(case.images, series)
    for path in (case.mask, case.roi):
        if path is None:
            continue
        mask = read_grid(path)
        check_same_grid(grid, mask)
        if mask.channels != 1:
            raise ValueError(f"{mask.path}: expected a mask of 1 channel, got {mask.channels}")
    return grid


def _check_channels(grids: Sequence[Grid]) -> None:
    first = grids[0]
    for grid in grids:
        if grid.channels != first.channels:
            raise ValueError(
                f"{grid.path}: expected {counted(first.channels, 'channel')} as in {first.path},"
                f" got {grid.channels}"
            )


def _warn_of_frames(grids: Sequence[Grid]) -> None:
    conflicts = [text for text in map(two_frames, grids) if text is not None]
    if conflicts:
        _log.warning(
            "%d of %d volumes have an sform and a qform that differ; the sform is used: %s",
            *(len(conflicts), len(grids), "; ".join(conflicts[:3])),
        )


def _warn_of_orientations(grids: Sequence[Grid]) -> None:
    """Warns if the volumes are stored in several orientations."""
    first = orientation_of(grids[0])
    others = [grid for grid in grids if orientation_of(grid) != first]
    if others:
        _log.warning(
            "%d of %d volumes are stored in another orientation than %s (%s), the first is %s (%s);"
            " `orientation: null` keeps the axes as stored",
            *(len(others), len(grids), grids[0].path, first),
            *(others[0].path, orientation_of(others[0])),
        )


def _labels(stored: Mapping[str, Any], given: Mapping[str, Any] | None, source: str) -> LabelTable:
    if given is not None:
        return LabelTable(given, "MedicalVolumes.labels")
    if not stored:
        raise ValueError(
            "MedicalVolumes.labels: expected class names with their stored values, got none, and"
            f" {source} does not name the classes"
        )
    return LabelTable(stored, f"{source}: labels")


def _checked_order(order: list[int], labels: LabelTable) -> list[int]:
    whole = [value for value in order if type(value) is int and 0 < value < 1 << 16]
    if order and (not labels.multilabel or len(whole) != len(labels.names)):
        regions = f"{len(labels.names)} regions" if labels.multilabel else "no regions"
        raise ValueError(
            f"regions_class_order: expected one whole number from 1 for each region, got {order}"
            f" for {regions}"
        )
    return order


def _checked_spacing(spacing: Sequence[float | None] | None) -> tuple[float | None, ...] | None:
    if spacing is None:
        return None
    steps = list(spacing) if isinstance(spacing, Sequence) else []
    if len(steps) != 3 or not all(step is None or _is_length(step) for step in steps):
        raise ValueError(
            "MedicalVolumes.spacing: expected three millimetres (z, y, x), null to keep an axis,"
            f" got {spacing!r}"
        )
    if not any(steps):
        return None
    return tuple(None if step is None else float(step) for step in spacing)


def _is_length(step: Any) -> bool:
    return isinstance(step, int | float) and type(step) is not bool and 0 < step < math.inf
