"""Defects in the annotations of a data set: counted and reported once, or refused."""

from __future__ import annotations

import logging
from collections import Counter

_log = logging.getLogger("densekit.data")


class Findings:
    """Defects that were repaired while a data set was read.

    Args:
        source: The annotation file or folder, for messages.
        strict: Raises at the first defect instead.

    Attributes:
        rows: `(kind, where)` of every defect; `where` names the image and the annotation.
    """

    def __init__(self, source: str, strict: bool) -> None:
        self.source = source
        self.strict = strict
        self.rows: list[tuple[str, str]] = []

    def add(self, kind: str, where: str) -> None:
        """Records one defect.

        Raises:
            ValueError: In strict mode.
        """
        if self.strict:
            raise ValueError(
                f"{self.source}: expected no defect (strict=True), got {kind}: {where}"
            )
        self.rows.append((kind, where))

    @property
    def counts(self) -> dict[str, int]:
        """Number of defects of each kind."""
        return dict(Counter(kind for kind, _ in self.rows))

    def log(self, hint: str = "") -> None:
        """Warns in one line of what was repaired, with the first case of each kind.

        Args:
            hint: A likely common cause, appended to the warning.
        """
        if not self.rows:
            return
        first = dict(reversed(self.rows))
        parts = [f"{count} x {kind} (first: {first[kind]})" for kind, count in self.counts.items()]
        _log.warning("%s: %s%s", self.source, "; ".join(parts), f". {hint}" if hint else "")
