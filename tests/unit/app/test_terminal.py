"""What a command shows of the logs and warnings of its libraries."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from typing import Any

import pytest

from densekit.app.terminal import console_logging


def test_what_was_just_said_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("densekit.data")
    with console_logging():
        for text in ("classes a, b", "classes a, b", "other", "classes a, b"):
            log.info(text)
        log.warning("file is broken")
        log.warning("file is broken")
    said = capsys.readouterr().err.splitlines()
    assert said == ["classes a, b", "other", "classes a, b", *["file is broken"] * 2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Total length of `list` across ranks is zero. Please make sure this was your", False),
        ("The 'val_dataloader' does not have many workers which may be a bottleneck.", False),
        ("The number of training batches (6) is smaller than the logging interval", False),
        (
            "Grad strides do not match bucket.\ngrad.sizes() = [12, 128, 1, 1], strides() = [1]",
            False,
        ),
        (
            "Grad strides do not match bucket.\ngrad.sizes() = [12, 128, 3, 3], strides() = [1]",
            True,
        ),
        ("the loss is not what it was", True),
    ],
)
def test_foreign_warnings_that_say_nothing_are_silent(text: str, shown: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with console_logging():
            warnings.warn(text, stacklevel=1)
    assert bool(caught) is shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_takes_lines_over_in_a_terminal_but_not_those_of_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Proxy:
        """What rich puts in place of standard error while a bar is shown."""

        def __init__(self, file: Any) -> None:
            self.rich_proxied_file = file
            self.taken = ""

        def isatty(self) -> bool:
            return bool(self.rich_proxied_file.isatty())

        def write(self, text: str) -> int:
            self.taken += text
            return len(text)

        def flush(self) -> None:
            pass

    lightning = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    for file in (Terminal(), io.StringIO()):
        with console_logging():
            proxy = Proxy(file)
            monkeypatch.setattr(sys, "stderr", proxy)
            logging.getLogger("densekit").info("above the bar")
            lightning.warning("training ended")
        found = proxy.taken if file.isatty() else file.getvalue()
        assert found == "above the bar\ntraining ended\n"
