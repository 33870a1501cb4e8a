"""Brings a data set of the table into a folder."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from densekit._files import write_json
from densekit._locks import locked
from densekit.app.downloads.digests import verified
from densekit.app.downloads.sets import Archive, DataSet
from densekit.app.downloads.transfer import DownloadError, Report, download
from densekit.app.downloads.unpack import BrokenArchiveError, unpack
from densekit.app.errors import UsageError

logger = logging.getLogger(__name__)

HIDDEN = ".download"
"""Folder below the output with unfinished downloads and a record of each finished one."""


def fetch(name: str, data: DataSet, output: Path, *, keep: bool = False) -> None:
    """Downloads, verifies, unpacks and prepares a data set; what is there already is left alone.

    Args:
        name: Its name in the table.
        data: Its row.
        output: The folder, `paths.data` of a run.
        keep: Whether archives stay after they are unpacked.

    Raises:
        DownloadError: Something failed; the same call continues where it stopped.
        UsageError: The data set needs another one first, or more room than there is.
    """
    _check_needs(name, data, output)
    logger.info("%s: %s (%s; %s)", name, data.about, data.terms, data.page)
    with _locked(output / HIDDEN), _as_folder_error():
        missing = [one for one in data.archives if not _is_unpacked(one, output)]
        _check_room(output, _peak(missing, output))
        for archive in missing:
            _bring(archive, output, keep=keep)
        if data.prepare is not None:
            data.prepare(output)
    for path in data.layout:
        if not (output / path).exists():
            raise DownloadError(f"{output}: expected {path} in {name}, got an archive without it")


def check_open(names: list[str], sets: Mapping[str, DataSet], output: Path) -> None:
    """Refuses data sets that only their owners hand out, unless they are there already.

    Raises:
        UsageError: Says where to get one of them and where to put it.
    """
    for name in names:
        data = sets[name]
        missing = [path for path in data.needs if not (output / path).exists()]
        if not data.archives and missing:
            raise UsageError(
                f"{name}: expected {', '.join(data.needs)} in {output}, got no {missing[0]};"
                f" download it yourself from {data.page} ({data.terms}), then run this again"
            )


def _check_needs(name: str, data: DataSet, output: Path) -> None:
    for path in data.needs:
        if not (output / path).exists():
            raise UsageError(
                f"{name}: expected {output / path}, got none; densekit download voc {name}"
            )


def _bring(archive: Archive, output: Path, *, keep: bool) -> None:
    """Downloads an archive unless it lies there complete, verifies and unpacks it."""
    file = output / HIDDEN / archive.name
    record = _record(archive, output)
    if not file.exists():
        part = file.with_name(f"{file.name}.part")
        logger.info("%s", archive.url)
        with _progress(f"download {archive.name}") as report:
            download(archive.url, part, archive.size, _room(output), report)
        part.replace(file)
        part.with_name(f"{part.name}.version").unlink(missing_ok=True)
    digest = verified(file, archive.url, archive.digest, record.get("digest"))
    if archive.digest is None:
        logger.info("%s: %s; none is published, later downloads must have the same", file, digest)
    try:
        with _progress(f"unpack {archive.name}") as report:
            files = unpack(
                file,
                archive.folders,
                output,
                gunzip=archive.gunzip,
                room=_room(output),
                report=report,
            )
    except BrokenArchiveError as error:  # such as the page of a captive network, saved as a file
        file.unlink()
        raise DownloadError(
            f"{error}; the file was removed, run the command again to download it anew"
        ) from error
    write_json(_record_file(archive, output), {"digest": digest, "files": files})
    if not keep:
        file.unlink()


def _record_file(archive: Archive, output: Path) -> Path:
    return output / HIDDEN / f"{archive.name}.json"


def _record(archive: Archive, output: Path) -> dict[str, Any]:
    """What an earlier download recorded; empty if there is none that can be read."""
    try:
        found = json.loads(_record_file(archive, output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_unpacked(archive: Archive, output: Path) -> bool:
    """Whether every file of the archive is there; warns of one that the user has changed."""
    files = _record(archive, output).get("files", {})
    if not files or not all((output / name).is_file() for name in files):
        return False
    changed = [name for name, size in files.items() if (output / name).stat().st_size != size]
    if changed:
        logger.warning(
            "%s: kept, though not as it was unpacked (%d such files); move it away to have it back",
            *(output / changed[0], len(changed)),
        )
    return True


def _peak(archives: list[Archive], output: Path) -> int:
    """Bytes needed at most: archives are unpacked one by one, and removed afterwards."""
    unpacked, peak = 0, 0
    for archive in archives:
        part = output / HIDDEN / f"{archive.name}.part"
        there = part.stat().st_size if part.exists() else 0
        size = max(0, archive.bytes_to_come - there)
        unpacked += archive.unpacked
        peak = max(peak, unpacked + size)
    return peak


def _room(output: Path) -> Callable[[int], None]:
    return lambda needed: _check_room(output, needed)


def _check_room(output: Path, needed: int) -> None:
    free = shutil.disk_usage(output).free
    if needed > free:
        raise UsageError(
            f"output: expected {needed / 1e9:.2f} GB of free space, got {free / 1e9:.2f} GB at"
            f" {output}"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process downloads into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(
        folder / "lock",
        lambda: logger.info("%s: waiting for another densekit download", folder.parent),
    ):
        yield


@contextlib.contextmanager
def _as_folder_error() -> Iterator[None]:
    """Names a file where a folder must be created."""
    try:
        yield
    except (NotADirectoryError, FileExistsError) as error:
        raise UsageError(f"{error.filename}: expected a folder, got a file") from error


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Report]:
    """A progress bar in bytes on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    bar = Progress(
        *columns,
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
