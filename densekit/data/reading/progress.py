"""A progress bar for loops that turn out to be long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

PATIENCE = 3.0
"""Seconds after which a loop says how far it is."""


def tracked(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items; a bar is shown once a few seconds have passed."""
    start = time.monotonic()
    for position, item in enumerate(items):
        if time.monotonic() - start > PATIENCE:
            from rich.progress import track

            yield from track(
                items[position:], what, total=len(items), completed=position, transient=True
            )
            return
        yield item
