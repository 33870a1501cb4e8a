"""The pictures in a DICOM folder: each whole or refused by name, and of one series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from densekit._extras import need
from densekit._names import unknown

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_MAGIC = (128, b"DICM")
"""Where a DICOM file of any name tells what it is."""
_DIRECTORY = "1.2.840.10008.1.3.10"
"""Class of a `DICOMDIR`, whatever its name."""


class Header(NamedTuple):
    """What stands before the pixels of a file.

    Attributes:
        path: The file.
        tags: pydicom's data set.
        rest: Bytes from there to the end.
    """

    path: Path
    tags: Any
    rest: int


def given(tags: Any, key: str, default: Any = None) -> Any:
    """The value of a tag; one that is there without a value, as type 2 allows, is not given."""
    value = tags.get(key)
    is_empty = value is None or (hasattr(value, "__len__") and not len(value))
    return default if is_empty else value


def is_dicom(file: Path) -> bool:
    """Whether a file is meant as DICOM, by its suffix or, if it has none or a number, its start."""
    suffix = file.suffix.lower()
    if not file.is_file() or suffix in DICOM_SUFFIXES:
        return file.is_file()
    if suffix and not suffix[1:].isdecimal():
        return False
    if suffix and not file.stat().st_size:  # a slice named by its UID, of which nothing is left
        return True
    place, magic = _MAGIC
    with file.open("rb") as stream:
        stream.seek(place)
        return stream.read(len(magic)) == magic


def picture_headers(path: Path) -> list[Header]:
    """The header of every picture of a folder, or of one file.

    Reports, plans and files of other kinds are passed over.

    Raises:
        ValueError: A file cannot be read, ends too early, or there is no picture.
    """
    need("pydicom", f"{path}: reading DICOM")
    pictures: list[Header] = []
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
        (pictures if _is_picture(header) else others).append(header)
    _check_unreadable(unreadable, pictures, alone=path.is_file())
    _check_others(others, pictures)
    if not pictures:
        inside = ", ".join(entry.name for entry in files[:10]) or "nothing"
        raise ValueError(f"{path}: no DICOM picture in this folder, it holds {inside}")
    return pictures


def one_series(headers: Sequence[Header], path: Path, series: str | None) -> list[Header]:
    """The pictures of one series.

    Args:
        headers: Of a folder.
        path: The folder.
        series: Its SeriesInstanceUID, or its SeriesDescription, in which `*` and `?` stand for
            any letters.

    Raises:
        ValueError: There are several, or none of that name; they are listed.
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
    found = [
        uid for uid in groups if wanted in (uid, names[uid]) or fnmatchcase(names[uid], wanted)
    ]
    if not found:
        said = unknown(f"{path}: series", wanted, [*groups, *names.values()])
        raise ValueError(f"{said} (there are {'; '.join(rows)})")
    if len(found) > 1:
        asked = "" if series is None else f" of the name {series!r}"
        raise ValueError(
            f"{path}: {len(found)} series{asked} in one folder; choose one by `series` (its UID or"
            f" description) or give each a folder of its own: {'; '.join(rows)}"
        )
    return groups[found[0]]


def _header(file: Path) -> Header:
    pydicom = need("pydicom", "reading DICOM")
    with file.open("rb") as stream:
        tags = pydicom.dcmread(stream, stop_before_pixels=True)
        return Header(file, tags, file.stat().st_size - stream.tell())


def _is_picture(header: Header) -> bool:
    """Whether a file has pixels; a report or a plan has none.

    Raises:
        ValueError: It should have some, but its header ends before it says how many.
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
            f"{header.path}: expected a whole DICOM picture, got a header that ends before its size"
            " (Rows)"
        )
    return False


def check_length(header: Header, frames: int) -> None:
    """Refuses a file that ends within its pixels; of compressed ones only the decoder knows.

    Args:
        header: Of a grey picture.
        frames: That it says it has.

    Raises:
        ValueError: With the bytes that are there and those that should be.
    """
    syntax = given(header.tags.file_meta, "TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or syntax.is_deflated:
        return
    keys = ("Rows", "Columns", "BitsAllocated")
    rows, columns, bits = (int(given(header.tags, key, 1)) for key in keys)
    needed = (frames * rows * columns * bits + 7) // 8
    there = header.rest - (8 if syntax.is_implicit_VR else 12)  # behind tag, VR and length
    if there < needed:
        raise ValueError(
            f"{header.path}: expected {needed} bytes of pixels ({frames} x {rows} x {columns}), got"
            f" {max(0, there)}: the file is cut"
        )


def _check_unreadable(
    files: Mapping[Path, Exception], pictures: Sequence[Header], *, alone: bool
) -> None:
    """Refuses what is called like a DICOM file; notes and thumbnails may lie in a folder."""
    suffixes = {file.suffix.lower() for file, *_ in pictures}
    for file, error in files.items():
        suffix = file.suffix.lower()
        # a file named by its UID has a number there
        is_meant = not suffix or suffix[1:].isdecimal() or suffix in DICOM_SUFFIXES
        if alone or suffix in suffixes - {""} or (is_meant and not _is_text(file)):
            size = file.stat().st_size
            cause = "an empty file" if not size else f"{size} bytes: {error}"
            raise ValueError(f"{file}: not a readable DICOM file: {cause}") from error


def _is_text(file: Path) -> bool:
    """Whether a file without a suffix is a note (README): what is left of a picture has zeros."""
    with file.open("rb") as stream:
        start = stream.read(_MAGIC[0])
    return bool(start) and not file.suffix and b"\0" not in start


def _check_others(others: Sequence[Header], pictures: Sequence[Header]) -> None:
    """Refuses a file without pixels that says it is of a series of pictures."""
    of_pictures = {given(header.tags, "SeriesInstanceUID") for header in pictures}
    for header in others:
        uid = given(header.tags, "SeriesInstanceUID")
        if uid is not None and uid in of_pictures:
            raise ValueError(
                f"{header.path}: expected a picture as the other files of series {uid}, got no Rows"
            )
