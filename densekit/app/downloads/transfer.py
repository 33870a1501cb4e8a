"""Downloads one file over HTTP and continues where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from densekit._files import write_text
from densekit.app.errors import UsageError

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as cut."""
ATTEMPTS = 4
"""Requests in a row that bring nothing before the download is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; each further pause is twice as long."""
COMPLETE, PARTIAL = 416, 206
"""Answers to a request for the rest of a file: there is none, or here it is."""
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which another attempt may succeed."""

CUT = (URLError, HTTPException, ConnectionError, TimeoutError)

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there and the total, if known."""


class DownloadError(UsageError):
    """A download could not be completed; what has arrived is kept for the next attempt."""


def download(
    url: str, part: Path, size: int | None, room: Callable[[int], None], report: Report
) -> None:
    """Downloads a file, or the rest of it.

    Cut connections are continued where they ended, if the server allows it, else from the start.

    Args:
        url: The address, http or https.
        part: Where to write; what an earlier attempt left there is continued.
        size: Its published size in bytes, if known.
        room: Called with the bytes to come before they are written; raises if the disk is too full.
        report: See `Report`.

    Raises:
        DownloadError: The server does not have the file, sends one of another size, or cannot be
            reached.
    """
    failures, cause = 0, "the connection ended early"
    while True:
        before = _bytes(part)
        try:
            if _request(url, part, size, room, report):
                return
        except HTTPError as error:
            if error.code not in BUSY:
                raise DownloadError(
                    f"{url}: expected the file, got {error.code} {error.reason}"
                ) from error
            cause = f"{error.code} {error.reason}"
        except CUT as error:
            cause = str(getattr(error, "reason", "") or error) or type(error).__name__
        failures = 0 if _bytes(part) > before else failures + 1
        if failures == ATTEMPTS:
            raise DownloadError(
                f"{url}: expected a connection, got: {cause}; run the command again when the"
                " network is back, it continues where it stopped"
            )
        time.sleep(PAUSE * 2 ** max(failures - 1, 0))


def _request(
    url: str, part: Path, size: int | None, room: Callable[[int], None], report: Report
) -> bool:
    """Requests the missing bytes and writes them; returns whether the file is complete."""
    if size is not None and _bytes(part) > size:
        part.unlink()
    start, version = _bytes(part), _version_file(part)
    headers = {"User-Agent": "densekit", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version.exists():  # otherwise the file on the server may have changed meanwhile
            headers["If-Range"] = version.read_text(encoding="utf-8")
    try:
        response = cast(HTTPResponse, urlopen(Request(url, headers=headers), timeout=TIMEOUT))  # nosec B310 # addresses of data sets that this package lists
    except HTTPError as error:
        if error.code != COMPLETE:
            raise
        if _total(error.headers.get("Content-Range")) == start:
            return True
        part.unlink(missing_ok=True)
        return False
    with response:
        if response.status != PARTIAL or not _continues(response, start):
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if None not in (size, total) and total != size:
            raise DownloadError(f"{url}: expected {size:,} bytes, as published, got {total:,}")
        room(0 if total is None else total - start)
        _keep_version(version, response)
        done = _copy(response, part, start, total, report)
        return done == (total or size or done)


def _copy(response: HTTPResponse, part: Path, start: int, total: int | None, report: Report) -> int:
    """Appends what the server sends; returns the bytes of the file so far."""
    done = start
    with part.open("ab" if start else "wb") as file:
        report(done, total)
        while chunk := response.read1(CHUNK):
            file.write(chunk)
            done += len(chunk)
            report(done, total)
    return done


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _keep_version(file: Path, response: HTTPResponse) -> None:
    """Stores what tells versions of a file on a server apart, for the next request."""
    etag = response.headers.get("ETag", "")
    version = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    if version:
        write_text(file, version)
    else:
        file.unlink(missing_ok=True)


def _continues(response: HTTPResponse, start: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-")


def _total(content_range: str | None) -> int | None:
    total = (content_range or "").rpartition("/")[2]
    return int(total) if total.isdecimal() else None
