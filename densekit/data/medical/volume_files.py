"""How files of volumes are called."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii.gz", ".nii")
"""What masks are written as."""
PAIR = (".hdr", ".img")
"""Header and voxels of a NIfTI pair or of Analyze."""
ITK = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES = (*NIFTI, *PAIR, *ITK)


def has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether the name ends so, in letters of any size."""
    return path.name.lower().endswith(suffixes)


def is_volume_file(path: Path) -> bool:
    """Whether a file of a folder is a volume; of a pair the header is.

    Hidden files are none: macOS leaves a `._scan.nii.gz` beside `scan.nii.gz`.
    """
    if path.name.startswith("."):
        return False
    return has_suffix(path, SUFFIXES) and not has_suffix(path, (".img",))


def volume_stem(path: Path) -> str:
    """The name of a volume without the suffix of its format; of a folder all of it."""
    name = path.name
    found = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(found)]
