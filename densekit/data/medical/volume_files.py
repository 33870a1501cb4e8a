"""File suffixes of volumes."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii.gz", ".nii")
"""Suffixes of NIfTI, in which masks are written."""
PAIR = (".hdr", ".img")
"""Header and voxels of a NIfTI pair or of Analyze."""
ITK = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES = (*NIFTI, *PAIR, *ITK)


def has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether the file name has one of the suffixes, in upper or lower case."""
    return path.name.lower().endswith(suffixes)


def is_volume_file(path: Path) -> bool:
    """Whether a file is a volume, by its name; of a pair only the header counts.

    Hidden files do not count: macOS leaves a `._scan.nii.gz` beside `scan.nii.gz`.
    """
    if path.name.startswith("."):
        return False
    return has_suffix(path, SUFFIXES) and not has_suffix(path, (".img",))


def volume_stem(path: Path) -> str:
    """The file name of a volume without the suffix of its format; the whole name of a folder."""
    name = path.name
    found = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(found)]
