"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

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
