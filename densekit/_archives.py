"""Zip archives: the checksums of their parts, and a limit of what unpacking them may need."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

MAX_TEXT = 64 << 20
"""Bytes that the compressed parts of an archive, texts, may need together when unpacked."""
_CHUNK = 1 << 20
_MAGIC = b"PK\x03\x04"


class ArchiveError(ValueError):
    """An archive is damaged, or needs more memory than its size accounts for."""


def is_archive(file: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with file.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def check_archive(file: Path) -> None:
    """Reads every part of an archive and compares it with its stored checksum (CRC-32).

    torch writes these checksums into its files and never reads them.

    Raises:
        ArchiveError: A part differs from its checksum, or the parts need more memory than an
            archive of this size can hold.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > file.stat().st_size + MAX_TEXT:
                raise ArchiveError("parts that need far more memory than the file is large")
            for part in parts:
                with archive.open(part) as stream:
                    while stream.read(_CHUNK):
                        pass
    # RuntimeError: a part that claims to be encrypted; NotImplementedError: an unknown method
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"damaged content ({error})") from error
