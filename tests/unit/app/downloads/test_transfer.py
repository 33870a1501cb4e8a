"""One file over HTTP: continued, restarted or refused, never silently wrong."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from densekit.app.downloads import transfer
from densekit.app.downloads.transfer import DownloadError, download
from tests.unit.app.downloads.server import Server

CONTENT = bytes(range(256)) * 4000


def get(url: str, part: Path, size: int | None = None, **more: Any) -> bytes:
    settings = {"room": lambda _: None, "report": lambda *_: None} | more
    download(url, part, size, **settings)
    return part.read_bytes()


@pytest.fixture
def part(tmp_path: Path, server: Server) -> Path:
    server.files["a.zip"] = CONTENT
    return tmp_path / "a.zip.part"


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", ['"1"', ""])
@pytest.mark.parametrize("cuts", [0, 1, 3])
def test_a_cut_connection_is_continued(
    server: Server, part: Path, ranges: bool, etag: str, cuts: int
) -> None:
    server.ranges, server.etag, server.cuts = ranges, etag, cuts
    assert get(server.url("a.zip"), part, len(CONTENT)) == CONTENT
    assert len(server.seen) == cuts + 1
    assert server.seen[-1] is None if not cuts else server.seen[-1] != "bytes=0-"


def test_what_an_earlier_process_left_is_continued(server: Server, part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    reports: list[tuple[int, int | None]] = []
    get(server.url("a.zip"), part, report=lambda *now: reports.append(now))
    assert part.read_bytes() == CONTENT
    assert server.seen == ["bytes=1000-"]
    assert reports[0] == (1000, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_complete_part_is_kept(server: Server, part: Path, size: int | None) -> None:
    part.write_bytes(CONTENT)
    assert get(server.url("a.zip"), part, size) == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_that_is_too_long_starts_again(server: Server, part: Path, size: int | None) -> None:
    part.write_bytes(CONTENT + b"more")
    assert get(server.url("a.zip"), part, size) == CONTENT


def test_a_file_that_changed_meanwhile_starts_again(server: Server, part: Path) -> None:
    # Half of the old version and half of the new one would be neither.
    server.cuts = 1
    server.errors = []
    seen = server.seen

    class Swap(dict[str, bytes]):
        def get(self, key: str, default: Any = None) -> Any:
            if len(seen) == 2:
                server.etag = '"2"'
                return CONTENT[::-1]
            return super().get(key, default)

    server.files = Swap(server.files)
    assert get(server.url("a.zip"), part) == CONTENT[::-1]


@pytest.mark.parametrize("code", [404, 403, 410])
def test_a_missing_file_is_said_at_once(server: Server, part: Path, code: int) -> None:
    server.errors = [code]
    with pytest.raises(DownloadError, match=rf"a\.zip: expected the file, got {code}"):
        get(server.url("a.zip"), part)
    assert len(server.seen) == 1


def test_a_busy_server_is_asked_again(server: Server, part: Path) -> None:
    server.errors = [503, 429]
    assert get(server.url("a.zip"), part) == CONTENT
    server.errors = [503] * 9
    part.unlink()
    with pytest.raises(DownloadError, match=r"expected a connection, got: 503 .*continues"):
        get(server.url("a.zip"), part)


def test_another_size_is_refused_before_anything_is_written(server: Server, part: Path) -> None:
    with pytest.raises(DownloadError, match=r"expected 5 bytes, as published, got 1,024,000"):
        get(server.url("a.zip"), part, 5)
    assert not part.exists()


def test_without_a_network_it_says_so(part: Path, server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
    with pytest.raises(DownloadError, match="expected a connection, got: .*refused.*run the"):
        get(closed, part)
    with pytest.raises(DownloadError, match="expected a connection, got: "):
        get("http://no-such-host.invalid/a.zip", part)


def test_a_full_disk_keeps_what_has_arrived(
    server: Server, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    reports = 0

    def report(done: int, _: int | None) -> None:
        nonlocal reports
        reports += 1
        if done >= 5000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        get(server.url("a.zip"), part, report=report)
    assert CONTENT.startswith(part.read_bytes())
    assert part.stat().st_size >= 5000
    assert get(server.url("a.zip"), part) == CONTENT


def test_the_room_is_asked_for_what_is_to_come(server: Server, part: Path) -> None:
    asked: list[int] = []
    part.write_bytes(CONTENT[:24_000])
    get(server.url("a.zip"), part, room=asked.append)
    assert asked == [1_000_000]
