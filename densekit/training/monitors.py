"""Whether what callbacks watch was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from densekit.data.naming import nearest

STAGE = "val/"


def check_monitors(callbacks: Iterable[Any], logged: Iterable[str]) -> None:
    """Refuses a callback that watches what validation has not logged.

    Args:
        callbacks: Of the trainer; those that have a `monitor` are looked at.
        logged: Names of all that is logged, at the end of a validation.

    Raises:
        ValueError: Naming what could be watched, and why there may be no loss.
    """
    measured = [name for name in logged if name.startswith(STAGE)]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not monitor.startswith(STAGE) or monitor in measured:
            continue
        raise ValueError(
            f"callbacks: {type(callback).__name__} watches {monitor!r}, which validation has not"
            f" measured; {nearest(monitor, measured)}. Set callbacks.checkpoint.monitor to one of"
            " these and callbacks.checkpoint.mode to max or min, or the monitor to null for the"
            " newest. Validation has no loss of heads whose targets are not in its data (other"
            " identities or classes than those of training), nor with windows or slices."
        )
