"""Text that anybody may have written: one error that names the file, and an end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from densekit._names import visible
from densekit._reading import check_regular, parse_yaml, read_json


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[" * 100_000, "recursion"),
        ('{"a":' * 100_000, "recursion"),
        ('{"id": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ("\ud800", "Expecting value"),
        ("<html>", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_what_is_no_json_is_named(text: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=rf"a\.json: expected JSON, got: .*{found}"):
        read_json(file)


def test_long_identifiers_are_exact(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{2**70}]")
    assert read_json(tmp_path / "a.json") == [2**70]


def test_yaml_that_repeats_itself_without_end_is_refused() -> None:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text in (bomb, "a: &a [*a]", "&a {b: *a}"):
        with pytest.raises(ValueError, match=r"x\.yaml: expected at most 1,000,000 values"):
            parse_yaml(text, "x.yaml")
    for text in ("[" * 5000, "a: 2020-99-99", "a: " + "9" * 5000, "!!python/name:os.system", "{"):
        with pytest.raises(ValueError, match=r"x\.yaml: expected YAML, got: "):
            parse_yaml(text, "x.yaml")


def test_pipes_devices_and_folders_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path, kind in (("pipe", "a pipe"), ("zero", "a device"), (".", "a folder")):
        with pytest.raises(ValueError, match=f"expected a file, got {kind}"):
            check_regular(tmp_path / path)
        with pytest.raises(ValueError, match=f"expected a file, got {kind}"):
            read_json(tmp_path / path)
    check_regular(tmp_path / "missing")


def test_a_terminal_shows_names_and_obeys_none() -> None:
    assert visible("a\x1b[2Jb\u202ec\r\n\td") == "a\\x1b[2Jb\\x202ec\\x0d\n\td"
    assert len(visible("x" * 5000)) < 200
    assert visible("größe 猫 [red]") == "größe 猫 [red]"
