"""`console.log`: the terminal output of a run, kept in its folder.

A progress bar rewrites its lines by control sequences. They are applied to the last lines, which
are written to the file once a bar can no longer reach them; all other sequences are removed.
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
"""Number of last lines that a bar may still change."""
_TOKEN = re.compile(r"\x1b\[(\d*)[;?\d]*([A-Za-z])|\x1b[^\[]|\r(?!\n)|\r?\n|[^\x1b\r\n]+")


class Transcript:
    """Writes text line by line as a terminal would finally show it.

    Args:
        file: Open for writing; an error in writing it does not stop the run.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: list[str] = []
        self._current = ""
        self._rewrites = False

    def feed(self, text: str, reach: int) -> None:
        """Adds text and writes all but the last `reach` lines."""
        for token in _TOKEN.finditer(text):
            self._take(token[0], token[1], token[2])
        self.write(reach)

    def write(self, reach: int = 0) -> None:
        """Writes all lines but the last `reach`."""
        count = max(0, len(self._lines) - reach)
        done, self._lines = self._lines[:count], self._lines[count:]
        with suppress(OSError, ValueError):  # a full disk, a closed file
            self._file.writelines(f"{line.rstrip()}\n" for line in done)
            self._file.flush()

    def close(self) -> None:
        """Writes all remaining lines."""
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
    """A terminal stream that also writes to a transcript."""

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
    """Collects the lines of densekit's log before there is a run folder."""
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
    """Copies all terminal output to the run folder, and at the end how the run ended.

    Args:
        run: The folder; created if it does not exist.
        before: Lines printed before there was a folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    with _opened(run / CONSOLE_LOG) as file:
        transcript = Transcript(file)
        transcript.feed("".join(f"{line}\n" for line in before), 0)
        out, err = sys.stdout, sys.stderr
        own = {id(out): Tee(out, transcript), id(err): Tee(err, transcript)}
        sys.stdout, sys.stderr = own[id(out)], own[id(err)]
        redirected = _redirect_handlers(own)
        try:
            yield
        except BaseException as error:
            transcript.feed(_ending(error), 0)
            raise
        finally:
            transcript.close()
            for handler, stream in redirected:
                handler.setStream(stream)
            sys.stdout, sys.stderr = out, err


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    file = path.open("a", encoding="utf-8", errors="replace")  # noqa: SIM115
    try:
        yield file
    finally:
        with suppress(OSError):  # of a full disk; it would hide the error that ended the run
            file.close()


def _redirect_handlers(own: dict[int, Tee]) -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Redirects the handlers of all loggers; returns them with their former streams."""
    known = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    handlers = {h for log in (logging.root, *known) for h in log.handlers}
    redirected = []
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and id(handler.stream) in own:
            redirected.append((handler, handler.stream))
            handler.setStream(own[id(handler.stream)])
    return redirected


def _ending(error: BaseException) -> str:
    message = explain(error) if isinstance(error, Exception) else str(error) or type(error).__name__
    if message is None:
        return "".join(traceback.format_exception(error))
    return f"densekit: {'error: ' * isinstance(error, Exception)}{message}\n"
