"""Progress of loops that turn out to take long: a bar in a terminal, otherwise lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

Item = TypeVar("Item")

PATIENCE = 3.0
"""Seconds before the progress bar appears."""
LINE_SECONDS = 10.0
"""Seconds between two lines."""


def tracked(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yields the items; once a few seconds have passed, shows how many are done.

    Args:
        items: What is worked on.
        what: Says how, such as "predicting".
    """
    from rich import get_console

    start = mark = time.monotonic()
    for position, item in enumerate(items):
        now = time.monotonic()
        if get_console().is_interactive and now - start > PATIENCE:
            from rich.progress import track

            yield from track(
                items[position:], what, total=len(items), completed=position, transient=True
            )
            return
        if position and now - mark >= LINE_SECONDS:
            mark = now
            print_progress(what, position, len(items), now - start)
        yield item


def print_progress(what: str, done: int, total: int, seconds: float) -> None:
    """Prints a line about long work where there is no terminal for a bar.

    Args:
        what: Says how, such as "predicting".
        done: Number that is done, at least 1.
        total: Number in all.
        seconds: They took.
    """
    left = timedelta(seconds=round(seconds / done * (total - done)))
    print(f"{what}  {done:,}/{total:,}  ETA {left}", file=sys.stderr, flush=True)
