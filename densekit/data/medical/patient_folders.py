"""Finds the volumes of data sets with one folder per patient, by their file names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from densekit._names import nearest
from densekit.data.medical.dicom_files import is_dicom
from densekit.data.medical.volume_files import is_volume_file, volume_stem
from densekit.data.reading.files import natural

MASKS = (
    *("mask", "masks", "seg", "segm", "segmentation", "label", "labels", "labelmap", "annotation"),
    *("gt", "groundtruth", "ground_truth", "truth"),
)
"""Default names of masks."""

_BETWEEN = "_-. "
"""Separators between the name of a patient and that of a volume."""

_IMAGE = "image"
"""The name of a volume whose file has only its patient's name."""

Volumes = dict[str, Path]
"""Volumes of a folder by name: `flair` for `P1/P1_flair.nii.gz` and for `P1/flair.nii.gz`."""


def visible(folder: Path) -> list[Path]:
    """The sorted entries of a folder, without hidden ones."""
    return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]


def patient_folders(root: Path) -> dict[Path, Volumes]:
    """Every folder below a root that holds volumes: files, or folders of one DICOM series each.

    Raises:
        ValueError: If two volumes of a folder have the same name.
    """
    folders = dict(_folders(root, ())) if root.is_dir() else {}
    own = {folder: _own(folder, volumes) for folder, volumes in folders.items()}
    if len(folders) < 2 or not all(own.values()):
        return folders
    return {
        folder: {_IMAGE if name == own[folder] else name: file for name, file in volumes.items()}
        for folder, volumes in folders.items()
    }


def mask_name(folders: Mapping[Path, Volumes]) -> str | None:
    """The one of `MASKS` that names the masks of all patients, None if there is none.

    Raises:
        ValueError: If there are several.
    """
    names = {name for volumes in folders.values() for name in volumes}
    found = sorted(name for name in names if name.lower() in MASKS)
    if len(found) > 1:
        first = next(iter(folders)).parent
        raise ValueError(
            f"{first}: expected one mask per patient, got {' and '.join(found)}; choose one with"
            " `mask`"
        )
    return found[0] if found else None


def image_names(folders: Mapping[Path, Volumes], others: Sequence[str]) -> list[str]:
    """The names of the channels of all patients: all volumes except `others`.

    Raises:
        ValueError: If patients have different volumes, or none.
    """
    of_folder = {
        folder: sorted(set(volumes) - set(others), key=natural)
        for folder, volumes in folders.items()
    }
    (first, names), *rest = of_folder.items()
    if not names:
        raise ValueError(f"{first}: expected volumes beside {' and '.join(others)}, got none")
    for folder, found in rest:
        if found != names:
            raise ValueError(
                f"{folder}: expected the volumes {', '.join(names)} as in {first.name}, got"
                f" {', '.join(found)}; choose them with `channels`"
            )
    return names


def check_patients(folders: Mapping[Path, Volumes], names: Sequence[str]) -> None:
    """Refuses a patient without one of the named volumes."""
    for folder, volumes in folders.items():
        if missing := [name for name in names if name not in volumes]:
            there = ", ".join(sorted(volumes)) or "no volume"
            hint = nearest(missing[0], volumes)
            raise ValueError(f"{folder}: expected a volume {missing[0]!r}, got {there}{hint}")


def without_volumes(folders: Mapping[Path, Volumes]) -> list[Path]:
    """Folders beside those of patients that contain no volume."""
    holding = {path for folder in folders for path in (folder, *folder.parents)}
    beside = {entry for folder in folders for entry in visible(folder.parent)}
    return sorted(entry for entry in beside - holding if entry.is_dir())


def _own(folder: Path, volumes: Volumes) -> str | None:
    """The volume named like its folder: `P1/P1.nii.gz`, beside `P1/P1_seg.nii.gz`."""
    if _IMAGE in volumes:
        return None
    return next((name for name in volumes if name.casefold() == folder.name.casefold()), None)


def _folders(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, Volumes]]:
    """Yields the folders with volumes at and below one; `above` are its own and parents' names."""
    entries = visible(folder)
    volumes: Volumes = {}
    for entry in entries:
        if not (is_volume_file(entry) if entry.is_file() else _has_series(entry)):
            continue
        name = _name(entry, above)
        if name in volumes:
            raise ValueError(
                f"{folder}: expected one volume per name, got {volumes[name].name} and {entry.name}"
            )
        volumes[name] = entry
    if volumes:
        yield folder, volumes
        return
    for entry in entries:
        if entry.is_dir():
            yield from _folders(entry, (*above, entry.name))


def _name(entry: Path, above: tuple[str, ...]) -> str:
    """The name of a volume without suffix and without the names of the folders above it."""
    stem = entry.name if entry.is_dir() else volume_stem(entry)
    for folder in above:
        rest = stem[len(folder) :]
        is_prefixed = stem.casefold().startswith(folder.casefold()) and rest[:1] in (*_BETWEEN,)
        stem = rest.lstrip(_BETWEEN) if is_prefixed and rest.strip(_BETWEEN) else stem
    return stem


def _has_series(folder: Path) -> bool:
    return any(is_dicom(file) for file in visible(folder))
