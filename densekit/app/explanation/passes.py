"""How many predictions a set of explanations takes, and the bar that counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from densekit._names import counted
from densekit.app.terminal import print_lines


class Passes:
    """Counts predictions on the terminal."""

    def __init__(self) -> None:
        from rich.progress import Progress

        self._bar = Progress()
        self._task = self._bar.add_task("explaining", total=None)
        self._has_begun = False

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
        self._bar.update(self._task, total=maps * each)
        self._bar.start()

    def advance(self, count: int) -> None:
        """Counts predictions."""
        self._bar.advance(self._task, count)
