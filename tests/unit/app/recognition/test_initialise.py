"""`densekit init` on a miniature of every kind of folder: the file it writes trains as printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from densekit.app.cli import main
from densekit.app.config.overrides import parse
from densekit.app.run.job import checked, configuration
from tests.unit.app.recognition import folders
from tests.unit.app.recognition.folders import KINDS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def files_of(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))


def command_of(printed: str) -> list[str]:
    (line,) = [line for line in printed.splitlines() if line.startswith("train: ")]
    return shlex.split(line.removeprefix("train: densekit train "))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_composes(
    kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, expected = KINDS[kind]
    root = place / "My data"
    root.mkdir()
    write(root)
    before = files_of(root)
    assert main(["init", str(root)]) == 0
    printed = capsys.readouterr().out
    assert f"(format={expected})" in printed
    assert files_of(root) == before
    assert Path("conf/data/my_data.yaml").is_file()
    (source,) = checked(configuration(parse(command_of(printed)))).sources.values()
    assert len(source.train) > 0


def test_outlines_are_read_if_a_head_learns_masks(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.coco(place / "coco", outlines=True)
    folders.yolo(place / "yolo", row="{n} .1 .1 .9 .1 .9 .9\n")
    for name in ("coco", "yolo"):
        assert main(["init", str(place / name), f"name=my_{name}"]) == 0
        assert "head=mask_rcnn learns their masks" in capsys.readouterr().out
        for head in ("faster_rcnn", "mask_rcnn"):
            words = [f"data=my_{name}", f"head={head}"]
            (source,) = checked(configuration(parse(words))).sources.values()
            assert ("instance_masks" in source.train[0]) == (head == "mask_rcnn")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_trains(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = place / "My data"
    root.mkdir()
    KINDS[kind][0](root)
    assert main(["init", str(root)]) == 0
    words = command_of(capsys.readouterr().out)
    words = [word for word in words if not word.startswith("backbone.width")]
    small = ["backbone.width=8", "trainer.max_steps=2"]
    if "head=faster_rcnn" in words:
        small += ["resize.min_size=64", "resize.max_size=64", "neck.out_channels=16"]
    assert main(["train", *words, *small]) == 0
