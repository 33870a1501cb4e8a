"""Verifies downloaded files by their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from densekit.app.downloads.transfer import DownloadError

UNPUBLISHED = "sha256"
"""The hash that is recorded where none is published."""


def verified(file: Path, url: str, published: str | None, recorded: str | None) -> str:
    """Compares a file with its published hash, else with the one of the first download.

    Args:
        file: A complete download; removed if it is damaged.
        url: Where it is from.
        published: `md5:HEX` or `sha256:HEX`.
        recorded: The same, from the record of an earlier download; only used where no hash is
            published.

    Returns:
        The hash of the file, in that form.

    Raises:
        DownloadError: It has another hash.
    """
    expected = published or recorded
    algorithm = expected.partition(":")[0] if expected else UNPUBLISHED
    with file.open("rb") as content:
        found = f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"
    if expected in (None, found):
        return found
    file.unlink()
    origin = "as published" if published else "as at the first download"
    raise DownloadError(
        f"{url}: expected {expected}, {origin}, got {found}; the file was removed, run the command"
        " again to download it anew"
    )
