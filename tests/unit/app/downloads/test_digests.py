"""Hashes of downloads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from densekit.app.downloads.digests import verified
from densekit.app.downloads.transfer import DownloadError

MD5 = f"md5:{hashlib.md5(b'content').hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(b'content').hexdigest()}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    path.write_bytes(b"content")
    return path


@pytest.mark.parametrize("published", [MD5, SHA256])
def test_the_published_hash_decides(file: Path, published: str) -> None:
    assert verified(file, "URL", published, "sha256:of an older version") == published
    file.write_bytes(b"Content")
    with pytest.raises(DownloadError, match=f"URL: expected {published}, as published, got "):
        verified(file, "URL", published, None)
    assert not file.exists()


def test_without_one_the_first_download_decides(file: Path) -> None:
    assert verified(file, "URL", None, None) == SHA256
    assert verified(file, "URL", None, SHA256) == SHA256
    file.write_bytes(b"Content")
    with pytest.raises(DownloadError, match="as at the first download"):
        verified(file, "URL", None, SHA256)
