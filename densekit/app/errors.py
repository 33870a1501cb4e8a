"""Errors of the command line, and how any error is printed on the terminal."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from pathlib import Path

from densekit._names import visible

UNREADABLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""Errors of the system for names that are no file of the expected kind."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of the system that need no traceback: disk full, too large, read-only, forbidden."""


class UsageError(ValueError):
    """The command line or the configuration is wrong; nothing has been done yet."""


class UnmetError(Exception):
    """A run is done, but its results are not those that `assert_expected` demands."""


class Stopped(BaseException):
    """A signal has stopped an unfinished run.

    Attributes:
        signal: The signal.
        code: The exit code that shells and schedulers expect, such as 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        self.code = 128 + number
        super().__init__(f"stopped by {self.signal.name}")


def report(error: Exception) -> int:
    """Prints the message of an error and returns the exit code: 1 for `UnmetError`, otherwise 2.

    Raises:
        Exception: The error itself, if its traceback is needed.
    """
    message = explain(error)
    if message is None:
        raise error
    print(f"densekit: error: {visible(message)}", file=sys.stderr)
    return 1 if isinstance(error, UnmetError) else 2


def explain(error: Exception) -> str | None:
    """The message to print instead of a traceback, None if the traceback is needed.

    An error that densekit itself raises, here or in a process that loads data, names file or key
    and what is accepted, so its traceback adds nothing; nor does that of a disk that cannot be
    written to. Anything else is a defect somewhere and is shown in full.
    """
    if os.environ.get("DENSEKIT_TRACEBACK"):
        return None
    if isinstance(error, UsageError | UnmetError):
        return str(error)
    own = type(error).__module__.partition(".")[0] == "densekit" or _raised_here(error)
    message = _of_worker(error) or (str(error) if own else _of_disk(error))
    return message and f"{message}\n(DENSEKIT_TRACEBACK=1 shows where this was raised)"


def _raised_here(error: Exception) -> bool:
    """Whether densekit itself raised the error, as a message for the user.

    Errors of extension modules seem to come from the line that called them, so the message decides.
    """
    if not isinstance(error, ValueError | TypeError | FileNotFoundError | ConnectionError):
        return False
    if "expected" not in str(error):
        return False
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    return module.partition(".")[0] == "densekit"


def _of_worker(error: Exception) -> str | None:
    """The message of a densekit error in a loader process, which arrives here only as text."""
    if not re.match(r"Caught \w+ in DataLoader worker process \d+\.", str(error)):
        return None
    *_, last = re.split(r'^  File "', str(error), flags=re.MULTILINE)
    file, _, rest = last.partition('"')
    raised = re.search(r"^([\w.]*)(?:Error|Exception): (.*)", rest, re.MULTILINE | re.DOTALL)
    if raised is None or not Path(file).is_relative_to(Path(__file__).parents[1]):
        return None
    expected = f"{raised[1]}Error" in ("ValueError", "TypeError", "FileNotFoundError")
    return raised[2].strip() if expected or raised[1].startswith("densekit.") else None


def _of_disk(error: Exception) -> str | None:
    if not isinstance(error, OSError) or error.errno not in (*UNWRITABLE, *UNREADABLE):
        return None
    if error.errno in UNREADABLE:
        return f"{error.filename}: expected a file or folder, got: {error.strerror}"
    return f"{error.filename or 'disk'}: expected to be written, got: {error.strerror}"
