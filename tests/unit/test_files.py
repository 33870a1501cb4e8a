"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from densekit._files import replacing, write_csv, write_json, write_text


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.nii.gz"
    with replacing(path) as part:
        assert (part.name, part.parent.parent) == ("a.nii.gz", path.parent)
        assert not path.exists()
        part.write_text("1")
    with replacing(path) as part:
        part.write_text("2")
        assert path.read_text() == "1"
    assert path.read_text() == "2"
    assert list(path.parent.iterdir()) == [path]


def write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("kind", [OSError, RuntimeError, KeyboardInterrupt])
def test_what_was_there_stays_if_writing_fails(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(kind):
        write_half(path, kind("no more"))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full") as raised:
        write_half(tmp_path / "a.txt", OSError(errno.ENOSPC, "full"))
    assert raised.value.filename == str(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(errno.ECONNRESET, "reset"), OSError(errno.EINVAL, "not a number")],
)
def test_an_error_of_something_else_names_no_file(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(OSError, match=str(error.strerror)) as raised:
        write_half(tmp_path / "a.txt", error)
    assert raised.value.filename is None


def test_a_folder_in_the_way_is_named_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a\.txt'$") as raised:
        write_text(tmp_path / "a.txt", "1")
    assert str(raised.value).endswith(f"directory: '{tmp_path / 'a.txt'}'")


def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, *arguments: Any, **named: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PermissionError) as raised, replacing(tmp_path / "a.txt"):
        pass
    assert raised.value.filename == str(tmp_path)


def test_killed_processes_leave_one_copy_which_the_next_one_removes(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom densekit._files import replacing\n"
        "with replacing(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a.txt"
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert [file.read_text() for file in tmp_path.rglob("*.txt")] == ["half"]
    write_text(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    other = path.stat().st_mode
    path.chmod(mode)
    write_text(path, "1")
    write_text(tmp_path / "b.txt", "1")
    assert path.stat().st_mode & 0o777 == mode
    assert (tmp_path / "b.txt").stat().st_mode == other


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to("real/a.txt")
    for text in ("new", "replaced"):
        write_text(link, text)
        assert (tmp_path / "real" / "a.txt").read_text() == text
    assert link.is_symlink()
    assert len(list(tmp_path.rglob("*"))) == 3


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "a.txt"):
        (tmp_path / "b.txt").read_text()
    assert raised.value.filename == str(tmp_path / "b.txt")


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": math.nan, "b": [1.5, -math.inf, {"c": True}], "d": 2})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"é": None, "b": [1.5, None, {"c": True}], "d": 2}
    assert "é" in text


def test_csv_has_plain_lines_and_names_in_any_encoding(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["file", "x"], ["a, \udcff", None]])
    assert (tmp_path / "a.csv").read_bytes() == b'file,x\n"a, \\xff",\n'


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_writers_in_other_languages_on_a_full_disk(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    expected = RuntimeError if free else OSError
    with pytest.raises(expected) as raised, replacing(tmp_path / "a.bin"):
        raise RuntimeError("basic_ios::clear: iostream error")
    assert free or raised.value.filename == str(tmp_path / "a.bin")  # type: ignore[union-attr]
    assert not list(tmp_path.iterdir())
