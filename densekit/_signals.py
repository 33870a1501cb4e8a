"""The signals that end a run."""

from __future__ import annotations

import signal

STOPS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
)
"""Of a scheduler, of Ctrl-C and of a closed terminal."""
