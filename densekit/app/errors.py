"""What a wrong command line raises, and how any error reaches the terminal."""

from __future__ import annotations

import os
import signal
import traceback


class UsageError(ValueError):
    """The command line or the configuration is wrong; nothing has been done yet."""


class Stopped(BaseException):
    """A signal has ended a run that was not done.

    Attributes:
        signal: Which one.
        code: The exit code that shells and schedulers know it by, 143 of SIGTERM.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        self.code = 128 + number
        super().__init__(f"stopped by {self.signal.name}")


def explain(error: Exception) -> str | None:
    """The message to print instead of a traceback, None where the traceback is what helps.

    An error that densekit itself raises names file or key and what is accepted: its traceback adds
    nothing. Anything that other code raises is a defect somewhere, and is shown whole.
    """
    if os.environ.get("DENSEKIT_TRACEBACK"):
        return None
    if isinstance(error, UsageError):
        return str(error)
    if type(error).__module__.partition(".")[0] == "densekit" or _raised_here(error):
        return f"{error}\n(DENSEKIT_TRACEBACK=1 shows where this was raised)"
    return None


def _raised_here(error: Exception) -> bool:
    """Whether a line of densekit raised it, as a message for the user."""
    if not isinstance(error, ValueError | TypeError | FileNotFoundError):
        return False
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    return module.partition(".")[0] == "densekit"
