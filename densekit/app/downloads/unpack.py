"""Unpacks zip and tar archives into the folders of a data set, and nowhere else.

Every name is checked before the first byte is written. Each file appears complete or not at all.
What is there already is compared and kept, so that an interrupted unpacking continues and no file
of the user is overwritten.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from densekit.app.downloads.transfer import CHUNK, DownloadError

BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
IGNORED = ("._", ".DS_Store")
"""Beginnings of the names of files that macOS adds to archives."""


class BrokenArchiveError(DownloadError):
    """A file is no archive, a damaged one, or one without the members that were chosen."""


@dataclass(frozen=True)
class Member:
    """An entry of an archive.

    Attributes:
        name: As stored.
        kind: `file`, `folder`, or what else it is.
        size: Bytes of its content.
        open: Opens the content; of a tar archive, before the next member is taken.
    """

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    folders: Mapping[str, str],
    output: Path,
    *,
    gunzip: bool,
    room: Callable[[int], None],
    report: Callable[[int, int | None], None],
) -> dict[str, int]:
    """Writes the chosen members of an archive.

    Args:
        archive: A zip or tar file, compressed or not.
        folders: Beginning of member names to what replaces it below `output`.
        output: The folder that nothing leaves.
        gunzip: Whether members `NAME.gz` are written as `NAME`, decompressed.
        room: Called with the bytes to be written; raises if the disk is too full.
        report: Called with the bytes that are written, and those in all.

    Returns:
        Every file, relative to `output`, with its size.

    Raises:
        BrokenArchiveError: The archive is damaged, or has none of the members.
        DownloadError: A member would leave the folder or is no file, or a file with other content
            exists.
    """
    try:
        with _members(archive) as members:
            chosen = {name: size for name, size in _plan(archive, members, folders, gunzip)}
        room(sum(size for name, size in chosen.items() if not (output / name).exists()))
        total, done, written = sum(chosen.values()), 0, dict[str, int]()
        with _members(archive) as members:
            for member in members:
                name = _place(member, folders, gunzip)
                if name is None or member.kind != "file":
                    continue
                with _content(member, gunzip) as content:
                    written[name] = _write(content, output / name)
                done += member.size
                report(done, total)
    except BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BrokenArchiveError(f"{archive}: expected a whole archive, got: {reason}") from error
    return written


def _plan(
    archive: Path, members: Iterator[Member], folders: Mapping[str, str], gunzip: bool
) -> Iterator[tuple[str, int]]:
    """Checks every member; yields path and size of those that will be written."""
    found = False
    for member in members:
        if not _is_inside(member.name):
            raise DownloadError(f"{archive}: expected names within a folder, got {member.name!r}")
        name = _place(member, folders, gunzip)
        if name is None or member.kind == "folder":
            continue
        if member.kind != "file":
            raise DownloadError(
                f"{archive}: expected files and folders, got {member.name!r}, a {member.kind}"
            )
        found = True
        yield name, member.size
    if not found:
        begin = ", ".join(map(repr, folders))
        raise BrokenArchiveError(f"{archive}: expected members that begin with {begin}, got none")


def _is_inside(name: str) -> bool:
    """Whether a stored name is relative, on every system, and climbs out of nothing."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not (path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name)


def _place(member: Member, folders: Mapping[str, str], gunzip: bool) -> str | None:
    """The path of a member below the output, None if it is left out."""
    name = PurePosixPath(member.name).as_posix()  # without ./ at the beginning
    if PurePosixPath(name).name.startswith(IGNORED) or name.startswith("__MACOSX/"):
        return None
    for beginning, folder in folders.items():
        if name.startswith(beginning):
            placed = folder + name.removeprefix(beginning)
            return placed.removesuffix(".gz") if gunzip else placed
    return None


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as content:
            yield (_of_zip(content, info) for info in content.infolist())
    else:
        with tarfile.open(archive) as content:
            yield (_of_tar(content, info) for info in content)


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = "folder" if info.is_dir() else "file"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "link or device"
    elif info.flag_bits & 1:
        kind = "file with a password"
    return Member(info.filename, kind, info.file_size, lambda: archive.open(info))


def _of_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind = "folder" if info.isdir() else "file" if info.isfile() else "link or device"
    return Member(info.name, kind, info.size, lambda: cast("IO[bytes]", archive.extractfile(info)))


@contextmanager
def _content(member: Member, gunzip: bool) -> Iterator[IO[bytes]]:
    with member.open() as stored:
        if gunzip and member.name.endswith(".gz"):
            with gzip.open(stored) as plain:
                yield cast("IO[bytes]", plain)
        else:
            yield stored


def _write(content: IO[bytes], target: Path) -> int:
    """Writes a file unless it is there with this content; returns its size."""
    if os.path.lexists(target):
        if not _equal(content, target):
            raise DownloadError(
                f"{target}: expected a new file or the content of the archive, got another; move it"
                " away and run the command again"
            )
        return target.stat().st_size
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".partial-{target.name}")
    with part.open("wb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
        size = file.tell()
    part.replace(target)
    return size


def _equal(content: IO[bytes], file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as existing:
        while True:
            chunk = content.read(CHUNK)
            if chunk != existing.read(len(chunk) or 1):
                return False
            if not chunk:
                return True
