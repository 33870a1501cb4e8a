"""What a run says: its folder first, its data before the training, all of it kept."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from densekit.app.cli import main
from densekit.app.errors import Stopped, UsageError
from densekit.app.run.console_log import CONSOLE_LOG, REACH, Transcript, kept_console
from tests.unit.app.small_run import SMALL_RUN


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str) -> list[str]:
    file = io.StringIO()
    transcript = Transcript(file)
    transcript.feed(text, REACH)
    transcript.close()
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\ntwo", ["one", "two"]),
        ("10%\r20%\r100%\ndone\n", ["100%", "done"]),
        ("windows\r\nlines\r\n", ["windows", "lines"]),
        ("\x1b[1;31mred\x1b[0m text\n", ["red text"]),
        ("bar 1\n\r\x1b[2K\x1b[1A\x1b[2Kbar 2\n", ["bar 2"]),
        ("kept\nbar\nbelow\r\x1b[2K\x1b[1A\x1b[2Ktable\nbar\n", ["kept", "table", "bar"]),
        ("\x1b[?25lhidden cursor\x1b[?25h\n", ["hidden cursor"]),
    ],
)
def test_control_sequences_have_their_effect(text: str, lines: list[str]) -> None:
    assert shown(text) == lines


def test_a_living_bar_leaves_its_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    with kept_console(tmp_path):
        console = Console(force_terminal=True, force_interactive=True, width=80)
        with Progress(console=console, auto_refresh=False) as bar:
            task = bar.add_task("training", total=30)
            for step in range(30):
                bar.advance(task)
                bar.refresh()
                if step == 10:
                    console.print("a table")
    lines = (tmp_path / CONSOLE_LOG).read_text().splitlines()
    assert [line.split()[0] for line in lines if line] == ["a", "training"]
    assert "100%" in lines[-1]


def test_streams_handlers_and_the_end_are_kept(tmp_path: Path) -> None:
    handler = logging.StreamHandler()
    log = logging.getLogger("densekit.test")
    log.addHandler(handler)
    log.propagate = False
    before = sys.stdout, sys.stderr, handler.stream
    try:
        with kept_console(tmp_path / "run"):
            print("to stdout")
            log.warning("to the log")
            print("to stderr", file=sys.stderr)
        with pytest.raises(UsageError), kept_console(tmp_path / "run"):
            raise UsageError("seed: expected a number")
        with pytest.raises(Stopped), kept_console(tmp_path / "run"):
            raise Stopped(15)
        assert (sys.stdout, sys.stderr, handler.stream) == before
    finally:
        log.removeHandler(handler)
    assert (tmp_path / "run" / CONSOLE_LOG).read_text().splitlines() == [
        *("to stdout", "to the log", "to stderr", "densekit: error: seed: expected a number"),
        "densekit: stopped by SIGTERM",
    ]


def test_a_defect_is_kept_whole(tmp_path: Path) -> None:
    with pytest.raises(KeyError), kept_console(tmp_path):
        {}["a"]
    assert "Traceback" in (tmp_path / CONSOLE_LOG).read_text()


def test_a_run_names_its_folder_and_its_data_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in SMALL_RUN if word != "callbacks.progress=null"]
    assert main(["train", *words, "test=false"]) == 0
    (run,) = (tmp_path / "runs" / "quickstart_classification").iterdir()
    captured = capsys.readouterr()
    assert captured.out.startswith(f"run folder: {run}\n")
    kept = (run / CONSOLE_LOG).read_text()
    for text in (captured.out, captured.err):
        missing = [line for line in text.splitlines() if line.strip() and line.rstrip() not in kept]
        assert missing == []
    data = kept.index("data.scenes.train: 16 images, 5 classes (")
    assert data < kept.index("epoch 0  step 1/2  loss ") < kept.index("evaluate:")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_neither_stops_a_run_nor_hides_why_it_ended(tmp_path: Path) -> None:
    (tmp_path / CONSOLE_LOG).symlink_to("/dev/full")
    with kept_console(tmp_path):
        print("one line")
    with pytest.raises(ValueError, match="the reason"), kept_console(tmp_path):
        raise ValueError("the reason")
