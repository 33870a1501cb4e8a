"""What a wrong command line raises, and how any error reaches the terminal."""

from __future__ import annotations

import os
import traceback


class UsageError(ValueError):
    """The command line or the configuration is wrong; nothing has been done yet."""


def explain(error: Exception) -> str | None:
    """The message to print instead of a traceback, None where the traceback is what helps.

    An error that densekit itself raises names file or key and what is accepted: its traceback adds
    nothing. Anything that other code raises is a defect somewhere, and is shown whole.
    """
    if os.environ.get("DENSEKIT_TRACEBACK"):
        return None
    if isinstance(error, UsageError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and "densekit" in frames[-1].filename.replace("\\", "/").split("/")
    if ours and isinstance(error, ValueError | TypeError | FileNotFoundError):
        return str(error)
    return None
