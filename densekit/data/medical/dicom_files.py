"""Finds the images of one series in a DICOM folder and refuses damaged files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from densekit._extras import need
from densekit._names import unknown

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_MAGIC = (128, b"DICM")
"""Offset and bytes that identify a DICOM file of any name."""
_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class UID of a `DICOMDIR`, whatever its name."""


class Header(NamedTuple):
    """The header of a file.

    Attributes:
        path: The file.
        tags: pydicom's `Dataset` without the pixels.
        rest: Number of bytes after the header.
    """

    path: Path
    tags: Any
    rest: int


def given(tags: Any, key: str, default: Any = None) -> Any:
    """The value of a tag, the default if it is missing or empty (as type 2 allows)."""
    value = tags.get(key)
    is_empty = value is None or (hasattr(value, "__len__") and not len(value))
    return default if is_empty else value


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM by its suffix or, without one or with a number as one, its start."""
    suffix = file.suffix.lower()
    if not file.is_file() or suffix in DICOM_SUFFIXES:
        return file.is_file()
    if suffix and not suffix[1:].isdecimal():
        return False
    if suffix and not file.stat().st_size:  # an emptied slice that was named by its UID
        return True
    offset, magic = _MAGIC
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(len(magic)) == magic


def image_headers(path: Path) -> list[Header]:
    """The header of every image in a folder, or of one file.

    Reports, plans and files of other kinds are skipped.

    Raises:
        ValueError: If a file cannot be read or ends too early, or there is no image.
    """
    need("pydicom", f"{path}: reading DICOM")
    images: list[Header] = []
    others: list[Header] = []
    unreadable: dict[Path, Exception] = {}
    files = [path] if path.is_file() else sorted(path.iterdir())
    for file in files:
        if not file.is_file() or file.name.startswith(".") or file.name.upper() == "DICOMDIR":
            continue
        try:
            header = _header(file)
        # pydicom has no class of its own for what a damaged file may throw
        except Exception as error:
            unreadable[file] = error
            continue
        (images if _is_image(header) else others).append(header)
    _check_unreadable(unreadable, images, alone=path.is_file())
    _check_others(others, images)
    if not images:
        inside = ", ".join(entry.name for entry in files[:10]) or "nothing"
        raise ValueError(f"{path}: expected DICOM images in this folder, got {inside}")
    return images


def one_series(headers: Sequence[Header], path: Path, series: str | None) -> list[Header]:
    """The headers of one series.

    Args:
        headers: Headers of a folder.
        path: The folder.
        series: SeriesInstanceUID, or SeriesDescription in which `*` and `?` are wildcards.

    Raises:
        ValueError: If several series match, or none; the message lists them.
    """
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(str(given(header.tags, "SeriesInstanceUID", "")), []).append(header)
    names = {
        uid: str(given(group[0].tags, "SeriesDescription", "no description"))
        for uid, group in groups.items()
    }
    rows = [f"{uid} ({names[uid]}, {len(group)} files)" for uid, group in groups.items()]
    wanted = "*" if series is None else str(series)  # YAML reads a description `3` as a number
    matching = [
        uid for uid in groups if wanted in (uid, names[uid]) or fnmatchcase(names[uid], wanted)
    ]
    if not matching:
        message = unknown(f"{path}: series", wanted, [*groups, *names.values()])
        raise ValueError(f"{message} (the folder holds {'; '.join(rows)})")
    if len(matching) > 1:
        named = "" if series is None else f" named {series!r}"
        raise ValueError(
            f"{path}: expected one series{named} per folder, got {len(matching)}; choose one by"
            " `series` (its UID or description) or give each its own folder; the folder holds"
            f" {'; '.join(rows)}"
        )
    return groups[matching[0]]


def _header(file: Path) -> Header:
    pydicom = need("pydicom", "reading DICOM")
    with file.open("rb") as stream:
        tags = pydicom.dcmread(stream, stop_before_pixels=True)
        return Header(file, tags, file.stat().st_size - stream.tell())


def _is_image(header: Header) -> bool:
    """Whether a file has pixels; a report or a plan has none.

    Raises:
        ValueError: If it should have pixels, but its header ends before their number.
    """
    tags = header.tags
    if given(tags, "Rows") is not None:
        return True
    kind = given(tags, "SOPClassUID") or given(tags.file_meta, "MediaStorageSOPClassUID")
    if kind == _DIRECTORY:
        return False
    of_series = given(tags, "SeriesInstanceUID") is not None
    if kind is None or not of_series or "Image Storage" in kind.name:
        raise ValueError(
            f"{header.path}: expected a complete DICOM image, got a header that ends before its"
            " size (Rows)"
        )
    return False


def check_length(header: Header, frames: int) -> None:
    """Refuses a file that ends within its pixels; compressed ones are left to the decoder.

    Args:
        header: Header of a grey image.
        frames: Number of frames by the header.

    Raises:
        ValueError: If bytes are missing, with the expected and the actual number.
    """
    syntax = given(header.tags.file_meta, "TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or syntax.is_deflated:
        return
    keys = ("Rows", "Columns", "BitsAllocated")
    rows, columns, bits = (int(given(header.tags, key, 1)) for key in keys)
    needed = (frames * rows * columns * bits + 7) // 8
    actual = header.rest - (8 if syntax.is_implicit_VR else 12)  # after tag, VR and length
    if actual < needed:
        raise ValueError(
            f"{header.path}: expected {needed} bytes of pixels ({frames} x {rows} x {columns}), got"
            f" {max(0, actual)}: the file is cut"
        )


def _check_unreadable(
    files: Mapping[Path, Exception], images: Sequence[Header], *, alone: bool
) -> None:
    """Refuses unreadable files that are named like DICOM; a folder may hold notes, thumbnails."""
    suffixes = {file.suffix.lower() for file, *_ in images}
    for file, error in files.items():
        suffix = file.suffix.lower()
        # the suffix of a file named by its UID is a number
        is_meant = not suffix or suffix[1:].isdecimal() or suffix in DICOM_SUFFIXES
        if alone or suffix in suffixes - {""} or (is_meant and not _is_text(file)):
            size = file.stat().st_size
            cause = "an empty file" if not size else f"{size} bytes: {error}"
            raise ValueError(f"{file}: expected a readable DICOM file, got {cause}") from error


def _is_text(file: Path) -> bool:
    """Whether a file without suffix is text (README); a damaged image contains zero bytes."""
    with file.open("rb") as stream:
        start = stream.read(_MAGIC[0])
    return bool(start) and not file.suffix and b"\0" not in start


def _check_others(others: Sequence[Header], images: Sequence[Header]) -> None:
    """Refuses a file without pixels that belongs to a series of images."""
    image_series = {given(header.tags, "SeriesInstanceUID") for header in images}
    for header in others:
        uid = given(header.tags, "SeriesInstanceUID")
        if uid is not None and uid in image_series:
            raise ValueError(
                f"{header.path}: expected an image like the other files of series {uid}, got no"
                " Rows"
            )
