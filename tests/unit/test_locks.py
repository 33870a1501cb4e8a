"""Locks keep other processes out, and cost nothing where there are none."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from densekit._locks import lock_if_free, locked


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file):
        assert lock_if_free(file) is None
    lock = lock_if_free(file)
    assert lock is not None
    lock.release()


def test_who_waits_says_so_and_goes_on(tmp_path: Path) -> None:
    file, waits, done = tmp_path / "lock", threading.Event(), threading.Event()

    def wait() -> None:
        with locked(file, waits.set):
            done.set()

    other = threading.Thread(target=wait)
    with locked(file):
        other.start()
        assert waits.wait(10)
        assert not done.is_set()
    other.join(10)
    assert done.is_set()


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), NotImplementedError()])
def test_a_file_system_without_locks(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    with locked(tmp_path / "lock"):
        pass
    assert lock_if_free(tmp_path / "lock") is None
    assert list(tmp_path.iterdir()) == []
