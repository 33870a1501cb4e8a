"""Locks among processes, each a file; on a file system without locks nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_LOCKS = (OSError, NotImplementedError)
"""What `filelock` raises where a lock cannot be had: no such call, or a folder for reading only."""


@contextmanager
def locked(file: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Context in which no other process holds the lock of a file.

    Args:
        file: Created if need be, and left in place.
        on_wait: Called if another process holds the lock, before waiting for it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    with suppress(*NO_LOCKS):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_if_free(file: Path) -> BaseFileLock | None:
    """Locks a file, created if need be; None if another process holds the lock, or it cannot."""
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except NO_LOCKS:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        return None
    return lock
