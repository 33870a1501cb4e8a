"""How many predictions a set of explanations takes, and how many of them are done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from densekit._names import counted
from densekit.app.terminal import print_lines
from densekit.data.reading.progress import LINE_SECONDS, print_progress


class Passes:
    """Counts predictions: by a bar in a terminal, otherwise by lines."""

    def __init__(self) -> None:
        from rich import get_console
        from rich.progress import Progress

        self._bar = Progress(disable=not get_console().is_interactive)
        self._task = self._bar.add_task("explaining", total=None)
        self._has_begun = False
        self._done = self._total = 0
        self._start = self._mark = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Context in which the bar may be on the terminal."""
        try:
            yield
        finally:
            self._bar.stop()

    def begin(self, method: str, each: int, maps: int) -> None:
        """States what the maps cost and starts the bar; later calls do nothing.

        Args:
            method: Of the maps.
            each: Predictions per map.
            maps: Most maps that may be computed.
        """
        if self._has_begun:
            return
        self._has_begun = True
        print_lines(
            f"{method}: {each:,} predictions per map, {maps * each:,} for up to"
            f" {counted(maps, 'map')}; lower: masks=, steps=, faithfulness=false,"
            " check_weights=false"
        )
        self._total = maps * each
        self._bar.update(self._task, total=self._total)
        self._bar.start()
        self._start = self._mark = time.monotonic()

    def advance(self, count: int) -> None:
        """Counts predictions."""
        self._done += count
        self._bar.advance(self._task, count)
        now = time.monotonic()
        if self._has_begun and self._bar.disable and now - self._mark >= LINE_SECONDS:
            self._mark = now
            print_progress("explaining", self._done, self._total, now - self._start)
