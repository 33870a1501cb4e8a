"""What was wrong with the annotations of a data set: counted, said once, or refused."""

from __future__ import annotations

import logging
from collections import Counter

_log = logging.getLogger("densekit.data")


class Findings:
    """Defects that a data set repaired while it was read.

    Args:
        source: The annotation file or folder, named in every message.
        strict: Raise at the first defect instead.

    Attributes:
        rows: `(kind, where)` of every defect, `where` naming the image and the annotation.
    """

    def __init__(self, source: str, strict: bool) -> None:
        self.source = source
        self.strict = strict
        self.rows: list[tuple[str, str]] = []

    def add(self, kind: str, where: str) -> None:
        """Notes one defect.

        Raises:
            ValueError: In strict mode.
        """
        if self.strict:
            raise ValueError(f"{self.source}: {kind}: {where} (strict=True accepts no defect)")
        self.rows.append((kind, where))

    @property
    def counts(self) -> dict[str, int]:
        """Kind of defect to how often it was met."""
        return dict(Counter(kind for kind, _ in self.rows))

    def log(self, hint: str = "") -> None:
        """Says in one line what was repaired, with the first place of each kind; silent if nothing.

        Args:
            hint: A guess at the common cause.
        """
        if not self.rows:
            return
        first = dict(reversed(self.rows))
        parts = [f"{count} x {kind} (first: {first[kind]})" for kind, count in self.counts.items()]
        _log.warning("%s: %s%s", self.source, "; ".join(parts), f". {hint}" if hint else "")
