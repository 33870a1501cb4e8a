"""Layouts of medical data sets: MSD, nnU-Net's raw layout, pairs, patient folders, tables."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densekit._names import nearest
from densekit.data.medical.description import Labels, labels_of, modalities, read_description
from densekit.data.medical.patient_folders import (
    check_patients,
    image_names,
    mask_name,
    patient_folders,
    visible,
    without_volumes,
)
from densekit.data.medical.volume_files import SUFFIXES, is_volume_file, volume_stem
from densekit.data.naming import unique_keys
from densekit.data.reading.files import existing_folder, natural
from densekit.data.reading.tables import check_filled, read_table

_log = logging.getLogger("densekit.data")

_PATIENT = ("patient", "patientid", "subject", "subjectid", "participant", "participantid")
"""Names of a table's column of patients, in lower case and without punctuation."""


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        name: Name of the files, unique in the data set.
        patient: The patient by a table; None if it follows from the name.
        images: The volume, or one volume per channel.
        mask: The mask.
        roi: A mask of the region of interest; None if everything counts.
    """

    name: str
    patient: str | None
    images: tuple[Path, ...]
    mask: Path
    roi: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case."""
        return (*self.images, self.mask, *(() if self.roi is None else (self.roi,)))


@dataclass(frozen=True)
class Layout:
    """The content of a data set.

    Attributes:
        cases: The cases, sorted by name.
        labels: Class name to stored value or values, empty if the layout does not state them.
        source: The file or folder that describes the data set, for messages.
        modalities: What each channel is ("CT", "T1"), empty if the layout does not state it.
        regions_class_order: As in nnU-Net, the value of each region in a label map.
    """

    cases: list[Case]
    labels: Labels
    source: str
    modalities: tuple[str, ...] = ()
    regions_class_order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Names:
    """Names of the volumes: folders of pairs, columns of a table, or files of each patient.

    Attributes:
        channels: One name per channel; empty for the layout's own.
        mask: Name of the masks; None for the layout's own.
        roi: Name of the masks of the region of interest; None if there are none.
    """

    channels: tuple[str, ...] = ()
    mask: str | None = None
    roi: str | None = None


def find_layout(root: Path, names: Names = Names()) -> Layout:
    """Recognises the layout of a data set and finds its cases.

    Args:
        root: A folder with `dataset.json` (MSD's `training` list, or nnU-Net's `file_ending`), a
            folder with `images` and `masks`, a folder with one folder per patient, or a table
            `.csv`.
        names: Names that differ from the layout's own; `dataset.json` names channels and masks
            itself.

    Raises:
        ValueError: If the layout is none of these, or a file is missing.
    """
    layout = stated_layout(root, names)
    _check_files(layout)
    return layout


def stated_layout(root: Path, names: Names = Names()) -> Layout:
    """The layout of `find_layout`, whose files may be missing.

    Raises:
        ValueError: If the layout is none of these.
    """
    _check_names(names)
    pair = [*(names.channels or ("images",)), names.mask or "masks"]
    if root.suffix.lower() == ".csv":
        layout = _table(root, names)
    elif (root / "dataset.json").is_file():
        if names.channels or names.mask:
            raise ValueError(
                f"{root / 'dataset.json'}: expected no `channels` and no `mask`, which it names"
                f" itself, got {list(names.channels)} and {names.mask!r}"
            )
        content = read_description(root / "dataset.json")
        layout = (_nnunet if "file_ending" in content else _msd)(root, content, names.roi)
    elif all((root / name).is_dir() for name in pair):
        _check_names(Names(tuple(pair[:-1]), pair[-1], names.roi))
        layout = _pairs(root, pair[:-1], pair[-1], names.roi)
    else:
        layout = _patients(root, names)
    return replace(layout, cases=_named(layout.cases, root))


def _check_names(names: Names) -> None:
    """Refuses a volume in two roles: a network must not see its own target."""
    roles = [*names.channels, *(name for name in (names.mask, names.roi) if name is not None)]
    if repeated := [name for name in roles if roles.count(name) > 1]:
        raise ValueError(
            "MedicalVolumes: expected different names for the channels, the mask and the roi, got"
            f" {repeated[0]!r} twice"
        )


def _msd(root: Path, content: Mapping[str, Any], roi: str | None) -> Layout:
    """Medical Segmentation Decathlon: `training` lists the pairs, channels are the 4th axis."""
    key = root / "dataset.json"
    rows, keys = content.get("training"), ["image", "label", *([] if roi is None else [roi])]
    if not isinstance(rows, list) or any(
        not isinstance(row, Mapping) or not {"image", "label"} <= set(row) for row in rows
    ):
        raise ValueError(
            f"{key}: training: expected a list of pairs of image and label, got {rows!r:.80}"
        )
    for row in rows:
        if lacking := [name for name in keys if not isinstance(row.get(name), str)]:
            raise ValueError(
                f"{key}: training: expected a path as {lacking[0]!r} of {row['image']!r}, got"
                f" {row.get(lacking[0])!r}"
            )
    cases = [
        Case(
            _stem(Path(row["image"])),
            None,
            _numbered(root / row["image"]),
            root / row["label"],
            None if roi is None else root / row[roi],
        )
        for row in rows
    ]
    labels = labels_of(key, content)
    if all(str(value).isdigit() for value in labels):  # MSD: stored value to name
        try:
            labels = unique_keys([(str(name), int(value)) for value, name in labels.items()])
        except ValueError as error:
            raise ValueError(f"{key}: labels: {error}") from error
    return Layout(cases, labels, str(key), modalities(content))


def _numbered(image: Path) -> tuple[Path, ...]:
    """The volume, or one per channel, whose suffix `_0000` older `dataset.json` leave out."""
    stem = volume_stem(image)
    ending = image.name[len(stem) :]
    first = image.with_name(f"{stem}_0000{ending}")
    if image.exists() or not first.exists():
        return (image,)
    channels = image.parent.glob(f"{glob.escape(stem)}_[0-9][0-9][0-9][0-9]{glob.escape(ending)}")
    return tuple(sorted(channels))


def _nnunet(root: Path, content: Mapping[str, Any], roi: str | None) -> Layout:
    """nnU-Net's raw layout: `imagesTr/CASE_0000.nii.gz` per channel, `labelsTr/CASE.nii.gz`."""
    key, ending = root / "dataset.json", content["file_ending"]
    if ending not in SUFFIXES:
        raise ValueError(
            f"{key}: file_ending: expected one of {', '.join(SUFFIXES)}, got {ending!r}"
        )
    channels = content.get("channel_names") or content.get("modality")
    if not isinstance(channels, Mapping | list) or not channels:
        raise ValueError(
            f"{key}: channel_names: expected one name per channel, got {channels!r:.80}"
        )
    images = root / "imagesTr"
    first = f"_0000{ending}"
    names = [p.name[: -len(first)] for p in sorted(images.glob(f"[!.]*{first}"))]
    cases = [
        Case(
            name,
            None,
            tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(len(channels))),
            root / "labelsTr" / f"{name}{ending}",
            None if roi is None else root / roi / f"{name}{ending}",
        )
        for name in names
    ]
    order = content.get("regions_class_order") or ()
    if not isinstance(order, list | tuple):
        raise ValueError(f"{key}: regions_class_order: expected a list of numbers, got {order!r}")
    return Layout(cases, labels_of(key, content), str(key), modalities(content), tuple(order))


def _pairs(root: Path, images: Sequence[str], mask: str, roi: str | None) -> Layout:
    """Pairs `images/CASE` and `masks/CASE`, each a file or a folder with one DICOM series."""
    names = [*images, mask, *([] if roi is None else [roi])]
    folders = {name: _by_stem(existing_folder(root / name, "MedicalVolumes")) for name in names}
    stems = set().union(*folders.values())
    for name, volumes in folders.items():
        if lacking := sorted(stems - set(volumes)):
            hint = nearest(lacking[0], sorted(volumes))
            raise ValueError(
                f"{root / name}: expected the cases of the other folders, got {len(lacking)}"
                f" missing (first: {lacking[0]!r}){hint}"
            )
    cases = [
        Case(
            stem,
            None,
            tuple(folders[name][stem] for name in images),
            folders[mask][stem],
            None if roi is None else folders[roi][stem],
        )
        for stem in folders[mask]
    ]
    return Layout(cases, {}, str(root))


def _patients(root: Path, names: Names) -> Layout:
    """Patients' files `PATIENT/flair.nii.gz` or `PATIENT/PATIENT_flair.nii.gz`, one a mask."""
    folders = patient_folders(root)
    mask = names.mask or mask_name(folders)
    if mask is None or not folders:
        inside = ", ".join(p.name for p in visible(root)[:10]) if root.is_dir() else ""
        raise ValueError(
            f"{root}: expected a folder with dataset.json (MSD, nnU-Net), a folder with images and"
            " masks, a folder with one folder per patient (in which `mask` names the masks), or a"
            f" table .csv, got {inside or 'nothing'}"
        )
    if empty := without_volumes(folders):
        _log.warning(
            "%s: %d folders beside those of patients contain no volume (first: %s)",
            *(root, len(empty), empty[0].name),
        )
    _check_names(replace(names, mask=mask))
    others = [mask, *([] if names.roi is None else [names.roi])]
    images = list(names.channels)
    check_patients(folders, [*images, *others])
    images = images or image_names(folders, others)
    cases = [
        Case(
            folder.relative_to(root).as_posix() if folder != root else folder.name,
            None,
            tuple(volumes[name] for name in images),
            volumes[mask],
            None if names.roi is None else volumes[names.roi],
        )
        for folder, volumes in folders.items()
    ]
    return Layout(cases, {}, str(root))


def _table(path: Path, names: Names) -> Layout:
    """A table of `mask`, `image` (or `image_0`, `image_1`, ...) and optionally `patient`."""
    mask = names.mask or "mask"
    _check_names(replace(names, mask=mask))
    needed = [mask, *([] if names.roi is None else [names.roi])]
    rows = _rows(path, needed, names.channels)
    patient = _patient_column(path, rows[0][0])
    cases = [
        Case(
            _stem(files[0]),
            None if patient is None else row[patient],
            files,
            path.parent / row[mask],
            None if names.roi is None else path.parent / row[names.roi],
        )
        for row, files in rows
    ]
    return Layout(cases, {}, str(path))


def _patient_column(path: Path, columns: Iterable[str]) -> str | None:
    """The column of patients; None without one."""
    columns = [name for name in columns if re.sub(r"[\W_]", "", name.casefold()) in _PATIENT]
    if len(columns) > 1:
        raise ValueError(f"{path}: expected one column of patients, got {' and '.join(columns)}")
    return columns[0] if columns else None


def listed_images(source: Path, images: Sequence[str]) -> list[tuple[Path, ...]]:
    """The volumes of each line of a table or of each patient's folder, without masks.

    Args:
        source: A table, or a folder with one folder per patient.
        images: Names of the channels, see `Names`; a table has default ones.

    Raises:
        ValueError: If the table cannot be read, or a volume is missing.
    """
    if source.suffix.lower() == ".csv":
        return [files for _, files in _rows(source, [], images)]
    folders = patient_folders(source)
    check_patients(folders, images)
    return [tuple(volumes[name] for name in images) for volumes in folders.values()]


def _rows(
    path: Path, needed: Sequence[str], images: Sequence[str] = ()
) -> list[tuple[dict[str, str], tuple[Path, ...]]]:
    """The rows of a table, and the image files of each."""
    rows = read_table(path, "MedicalVolumes.root", [])
    columns = list(rows[0][1])
    default = sorted((c for c in columns if c == "image" or c.startswith("image_")), key=natural)
    wanted_images = images or ("image",)
    images = images or default
    if not images or not {*images, *needed} <= set(columns):
        wanted = " and ".join(f"`{name}`" for name in (*needed, *wanted_images))
        raise ValueError(
            f"{path}: expected columns {wanted} (or `image_0`, `image_1`, ...) and optionally"
            f" `patient`, got {columns}"
        )
    patient = _patient_column(path, columns) if needed else None
    check_filled(rows, [*images, *needed, *([patient] if patient is not None else [])])
    return [(row, tuple(path.parent / row[column] for column in images)) for _, row in rows]


def _named(cases: list[Case], root: Path) -> list[Case]:
    """Names cases by their paths if several have files of equal names."""
    if len({case.name for case in cases}) == len(cases):
        return cases
    base = root.parent if root.is_file() else root
    firsts = [case.images[0] for case in cases]
    paths = [Path(os.path.relpath(first.with_name(_stem(first)), base)) for first in firsts]
    return [replace(case, name=path.as_posix()) for case, path in zip(cases, paths, strict=True)]


def _check_files(layout: Layout) -> None:
    if not layout.cases:
        raise ValueError(f"{layout.source}: expected at least one case, got none")
    files = [file for case in layout.cases for file in case.files]
    if missing := [file for file in files if not file.exists()]:
        raise ValueError(
            f"{layout.source}: expected existing files, got {len(missing)} of {len(files)} missing"
            f" (first: {missing[0]})"
        )
    names = [case.name for case in layout.cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{layout.source}: expected every case once, got {repeated[0]!r} again")


def _by_stem(folder: Path) -> dict[str, Path]:
    volumes: dict[str, Path] = {}
    for path in visible(folder):
        if not (path.is_dir() or is_volume_file(path)):
            continue
        other = volumes.setdefault(_stem(path), path)
        if other != path:
            raise ValueError(
                f"{folder}: expected one volume per name, got {other.name} and {path.name}; move"
                " one of them away"
            )
    return volumes


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else volume_stem(path)
