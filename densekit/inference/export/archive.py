"""Texts stored in a file that is a zip archive, such as those of `torch.export`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from densekit._archives import ArchiveError, check_archive
from densekit.inference.export.digest import DIGEST, check_digest, damaged, digest

FOLDER = "extra"
"""Name of the folder in the archive, the one that `torch.export.load(extra_files=...)` reads."""
MAX_BYTES = 64 << 20
"""Limit of a text, unpacked."""


def write_texts(file: Path, texts: Mapping[str, str]) -> None:
    """Adds texts to an archive, below its one top folder where it has one.

    What precedes the archive, such as a program of ExecuTorch, has no checksum there: its digest
    becomes a text.
    """
    with zipfile.ZipFile(file, "a") as archive:
        if not any(PurePosixPath(name).name == DIGEST for name in archive.namelist()):
            texts = {**texts, DIGEST: digest(_before(file, archive), {})}
        tops = {PurePosixPath(name).parts[0] for name in archive.namelist()} - {FOLDER}
        top = f"{tops.pop()}/" if len(tops) == 1 else ""
        for name, text in texts.items():
            archive.writestr(f"{top}{FOLDER}/{name}", text, zipfile.ZIP_DEFLATED)


def read_texts(file: Path) -> dict[str, str]:
    """Reads the texts that `write_texts` stored, by name.

    Raises:
        ValueError: The file is no archive, is damaged, or holds none.
    """
    texts = _texts(file)
    check_parts(file)
    if DIGEST in texts:
        with zipfile.ZipFile(file) as archive:
            check_digest(file, texts[DIGEST], digest(_before(file, archive), {}))
    return texts


def check_parts(file: Path) -> None:
    """Compares the parts of an archive with their checksums.

    Raises:
        ValueError: One differs.
    """
    try:
        check_archive(file)
    except ArchiveError as error:
        raise damaged(file, str(error)) from error


def _texts(file: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            parts = [
                p for p in archive.infolist() if PurePosixPath(p.filename).parent.name == FOLDER
            ]
            if not parts:
                raise ValueError(f"expected the folder {FOLDER} in it, got none")
            if max(part.file_size for part in parts) > MAX_BYTES:
                raise ValueError(f"expected texts of at most {MAX_BYTES >> 20} MiB, got more")
            return {PurePosixPath(one.filename).name: archive.read(one).decode() for one in parts}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file}: expected a file exported by densekit, got another one: {error}"
        ) from error


def _before(file: Path, archive: zipfile.ZipFile) -> bytes:
    """What precedes the first part of an archive; all of a file that has none yet."""
    with file.open("rb") as stream:
        return stream.read(min((part.header_offset for part in archive.infolist()), default=-1))
