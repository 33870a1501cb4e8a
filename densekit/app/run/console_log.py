"""`console.log`: what a run has said in the terminal, kept in its folder.

A progress bar rewrites its lines by control sequences. Here they have their effect on the last
lines, which are written to the file once a bar can no longer reach them, and all others are taken
out.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from densekit.app.errors import explain

CONSOLE_LOG = "console.log"
REACH = 50
"""Lines above the last that a bar may still change."""
_TOKEN = re.compile(r"\x1b\[(\d*)[;?\d]*([A-Za-z])|\x1b[^\[]|\r(?!\n)|\r?\n|[^\x1b\r\n]+")


class Transcript:
    """Text as a terminal would show it in the end, written line by line.

    Args:
        file: Open for writing; if it fails, the transcript ends and nothing else does.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: list[str] = []
        self._current = ""
        self._rewrites = False

    def feed(self, text: str, reach: int) -> None:
        """Takes up text; the last `reach` lines are kept back."""
        for token in _TOKEN.finditer(text):
            self._take(token[0], token[1], token[2])
        self.write(reach)

    def write(self, reach: int = 0) -> None:
        """Writes what lies further back than `reach` lines."""
        count = max(0, len(self._lines) - reach)
        done, self._lines = self._lines[:count], self._lines[count:]
        with suppress(OSError, ValueError):  # a full disk, a file that is closed
            self._file.writelines(f"{line.rstrip()}\n" for line in done)
            self._file.flush()

    def close(self) -> None:
        """Writes all that is left."""
        if self._current:
            self._lines.append(self._current)
        self.write()

    def _take(self, token: str, number: str | None, command: str | None) -> None:
        if command == "A":  # up
            for _ in range(min(int(number or 1), len(self._lines))):
                self._current = self._lines.pop()
        elif command == "K":  # erase the line
            self._current = ""
        elif token in ("\n", "\r\n"):
            self._lines.append(self._current)
            self._current, self._rewrites = "", False
        elif token == "\r":
            self._rewrites = True
        elif not token.startswith("\x1b"):
            self._current = token if self._rewrites else self._current + token
            self._rewrites = False


class Tee:
    """A stream of the terminal whose text goes into a transcript, too."""

    def __init__(self, stream: Any, transcript: Transcript) -> None:
        self._stream = stream
        self._transcript = transcript

    def write(self, text: str) -> int:
        """Writes to both."""
        self._transcript.feed(text, REACH if self._stream.isatty() else 0)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def remembered() -> Iterator[list[str]]:
    """Collects the lines of densekit's log while there is no run folder yet."""
    log, lines = logging.getLogger("densekit"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


@contextmanager
def kept_console(run: Path, before: Sequence[str] = ()) -> Iterator[None]:
    """Keeps in the run folder what is said meanwhile, and how it ended.

    Args:
        run: The folder; made if it is not there.
        before: Lines that were said before there was a folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / CONSOLE_LOG).open("a", encoding="utf-8", errors="replace") as file:
        transcript = Transcript(file)
        transcript.feed("".join(f"{line}\n" for line in before), 0)
        out, err = sys.stdout, sys.stderr
        own = {id(out): Tee(out, transcript), id(err): Tee(err, transcript)}
        sys.stdout, sys.stderr = own[id(out)], own[id(err)]
        turned = _turn_handlers(own)
        try:
            yield
        except BaseException as error:
            transcript.feed(_last_words(error), 0)
            raise
        finally:
            transcript.close()
            for handler, stream in turned:
                handler.setStream(stream)
            sys.stdout, sys.stderr = out, err


def _turn_handlers(own: dict[int, Tee]) -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Lets the handlers of all loggers write to the new streams; returns what they wrote to."""
    known = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    handlers = {h for log in (logging.root, *known) for h in log.handlers}
    turned = []
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and id(handler.stream) in own:
            turned.append((handler, handler.stream))
            handler.setStream(own[id(handler.stream)])
    return turned


def _last_words(error: BaseException) -> str:
    said = explain(error) if isinstance(error, Exception) else str(error) or type(error).__name__
    if said is None:
        return "".join(traceback.format_exception(error))
    return f"densekit: {'error: ' * isinstance(error, Exception)}{said}\n"
