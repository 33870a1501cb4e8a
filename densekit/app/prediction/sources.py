"""Finds the files that `densekit predict` reads, and names the results."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densekit._names import readable
from densekit.app.errors import UsageError
from densekit.app.prediction.found import files_of, fixed_part, folders_below, relative_paths
from densekit.data.medical.dicom_files import DICOM_SUFFIXES, is_dicom
from densekit.data.medical.volume_files import SUFFIXES, is_volume_file, volume_stem
from densekit.data.reading.files import IMAGE_SUFFIXES, files_below

if TYPE_CHECKING:
    from densekit.inference.frames import Frames

IMAGES = frozenset([*IMAGE_SUFFIXES, ".npy", ".svs"])
SEQUENCES = (".fasta", ".fa", ".fna", ".txt")
CHANNEL = re.compile(r"^(.+)_(\d{4})$")
"""nnU-Net's file names for the channels of a case: `case_0000.nii.gz`, `case_0001.nii.gz`."""


def find_cases(
    source: str, channels: Sequence[str], frames: Frames
) -> tuple[list[list[Path]], Path]:
    """Finds the files of each image, and the folder that their names are relative to.

    Args:
        source: See `densekit predict`.
        channels: Its option `channels`.
        frames: Of the model.

    Raises:
        UsageError: There are none.
    """
    if frames.dims != 3:
        from densekit.data.classification.series import SUFFIXES as SERIES

        suffixes = SEQUENCES if frames.letters else SERIES
        files, root = find_images(source, IMAGES if frames.dims == 2 else suffixes)
        return [[file] for file in files], root
    if channels or source.lower().endswith(".csv"):
        return listed_volumes(Path(source).expanduser(), channels)
    files, root = find_volumes(source)
    return by_case(files, frames.channels), root


def find_images(source: str, suffixes: Collection[str] = IMAGES) -> tuple[list[Path], Path]:
    """Finds the images of a folder (recursively), a file or a pattern; returns them and their root.

    Args:
        source: A file, a folder or a pattern.
        suffixes: Of the files to find in a folder.

    Raises:
        UsageError: There are none.
    """
    return _find(
        source,
        lambda folder: sorted(folder / name for name in files_below(folder, tuple(suffixes))),
        lambda matches: [file for file in matches if file.is_file()],
        "images",
    )


def find_volumes(source: str) -> tuple[list[Path], Path]:
    """Finds volume files and DICOM folders; returns them and their root.

    Args:
        source: A file, a DICOM folder, a folder with several of them (searched recursively) or a
            pattern.

    Raises:
        UsageError: There are none.
    """
    return _find(
        source, _volumes, _each_once, f"{', '.join(SUFFIXES)} files or folders with DICOM files"
    )


def by_case(files: Sequence[Path], channels: int) -> list[list[Path]]:
    """Groups files by case, in the order of their channels.

    Args:
        files: Volumes.
        channels: Of the model; with one, or if the names are not nnU-Net's, each file is a case.

    Raises:
        UsageError: A case does not have one file per channel.
    """
    matches = [CHANNEL.match(stem(file).name) for file in files]
    if channels == 1 or not all(matches):
        return [[file] for file in files]
    cases: dict[Path, list[Path]] = {}
    for file, match in sorted(zip(files, matches, strict=True), key=lambda pair: str(pair[0])):
        assert match is not None
        cases.setdefault(file.with_name(match[1]), []).append(file)
    for case, of_case in cases.items():
        if len(of_case) != channels:
            raise UsageError(
                f"{case}_0000 and so on: expected {channels} files, one per channel of the model,"
                f" got {len(of_case)}"
            )
    return list(cases.values())


def listed_volumes(source: Path, images: Sequence[str] = ()) -> tuple[list[list[Path]], Path]:
    """Lists the files of each case of a table or of patient folders, and their root.

    Args:
        source: A table with the column `image`, or one column per channel (`image_0`, ...), or a
            folder with one folder per patient.
        images: Names of the columns, or of the files of each patient, one per channel.

    Raises:
        UsageError: There are none, or a file is missing.
    """
    from densekit.data.medical.layouts import listed_images

    cases = [list(files) for files in listed_images(source, images)]
    if not cases:
        raise UsageError(f"source: expected folders with volumes, got {source} without")
    missing = [file for case in cases for file in case if not file.exists()]
    if missing:
        raise UsageError(f"{source}: expected existing volumes, got {missing[0]}")
    return cases, Path(os.path.commonpath([case[0].parent for case in cases]))


def overlay_names(files: Sequence[Path], root: Path) -> list[Path]:
    """Overlay path of each image: as in the source, with `.jpg`, added if names would collide."""
    relative = [Path(readable(path)) for path in relative_paths(files, root)]
    short = [path.with_suffix(".jpg") for path in relative]
    return distinct(short, [path.with_name(path.name + ".jpg") for path in relative])


def volume_names(cases: Sequence[Sequence[Path]], root: Path) -> list[Path]:
    """Overlay path of each case: as in the source, with `.jpg`, added if names would collide."""
    relative = [Path(readable(path)) for path in relative_paths([case[0] for case in cases], root)]
    short = [stem(path) for path in relative]
    short = [
        path.with_name(match[1]) if len(case) > 1 and (match := CHANNEL.match(path.name)) else path
        for path, case in zip(short, cases, strict=True)
    ]
    return [path.with_name(path.name + ".jpg") for path in distinct(short, relative)]


def distinct(short: Sequence[Path], long: Sequence[Path]) -> list[Path]:
    """Returns each short name if it is unique, else the long one, numbered if still not unique."""
    counts, taken, names = Counter(short), set[Path](), list[Path]()
    for name, whole in zip(short, long, strict=True):
        chosen = first = name if counts[name] == 1 else whole
        numbers = itertools.count(2)
        while chosen in taken:
            chosen = first.with_name(f"{first.stem}_{next(numbers)}{first.suffix}")
        taken.add(chosen)
        names.append(chosen)
    return names


def stem(path: Path) -> Path:
    """Returns a volume's path without the suffix of its format."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return path.with_suffix("")
    return path.with_name(volume_stem(path))


def _find(
    source: str,
    in_folder: Callable[[Path], list[Path]],
    of_pattern: Callable[[list[Path]], list[Path]],
    expected: str,
) -> tuple[list[Path], Path]:
    """Finds files by path, folder or pattern; returns them and the root of their relative names."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        found, root = in_folder(path), path
    else:
        found, root = of_pattern(files_of(path)), fixed_part(path)
    if not found:
        raise UsageError(f"source: expected {expected}, got none at {source}")
    return found, path.parent if found == [path] else root


def _each_once(matches: list[Path]) -> list[Path]:
    """Removes duplicate volumes: `**` matches a folder and its contents."""
    volumes = [volume for match in matches for volume in _volumes(match)]
    unique = {(os.path.realpath(volume.parent), volume.name): volume for volume in volumes}
    return list(unique.values())


def _volumes(path: Path) -> list[Path]:
    """Lists the volumes at and below a path, sorted by name."""
    if path.is_file():
        return [path] if is_volume_file(path) else []
    found = []
    for folder in folders_below(path):
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if any(is_dicom(entry) for entry in entries):
            found.append(folder)
        found += [entry for entry in entries if entry.is_file() and is_volume_file(entry)]
    return sorted(found)
