"""A progress bar for loops that turn out to take long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

PATIENCE = 3.0
"""Seconds before the progress bar appears."""


def tracked(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yields the items; shows a progress bar once a few seconds have passed."""
    start = time.monotonic()
    for position, item in enumerate(items):
        if time.monotonic() - start > PATIENCE:
            from rich.progress import track

            yield from track(
                items[position:], what, total=len(items), completed=position, transient=True
            )
            return
        yield item
