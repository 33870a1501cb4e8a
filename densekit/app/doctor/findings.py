"""What a check is and what it reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from densekit.app.doctor.facts import Box, Example, Part, Study


class Severity(StrEnum):
    """How bad a finding is.

    Attributes:
        ERROR: Training fails, or its metrics are wrong.
        WARNING: Probably a mistake.
        NOTE: Unusual, but often meant.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ORDER = {severity: rank for rank, severity in enumerate(Severity)}
"""The most severe first."""


@dataclass(frozen=True)
class Hit:
    """One case that a check found.

    Attributes:
        split: The split, empty if it concerns the whole data set.
        file: The file, empty if it concerns none.
        message: What was found.
        box: Where to look in the image, None for all of it.
        strength: How sure it is, 0 to 1, if it is a candidate.
    """

    split: str
    file: str
    message: str
    box: Box | None = None
    strength: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A hit together with its check.

    Attributes:
        check: Name of the check.
        severity: How bad it is.
        split: The split, empty if it concerns the whole data set.
        file: The file, empty if it concerns none.
        message: What was found.
        box: Where to look in the image, None for all of it.
        strength: How sure it is, 0 to 1, if it is a candidate.
    """

    check: str
    severity: Severity
    split: str
    file: str
    message: str
    box: Box | None
    strength: float

    def row(self) -> dict[str, Any]:
        """Its entries as JSON stores them."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """One question that is asked of every data set.

    Attributes:
        name: Its name, for `ignore` and for messages.
        severity: How bad its findings are.
        about: What it looks for, in one line.
        run: Finds the cases.
    """

    name: str
    severity: Severity
    about: str
    run: Callable[[Study], Iterable[Hit]]

    def __call__(self, study: Study) -> Iterator[Finding]:
        """Everything that it finds in a data set."""
        for hit in self.run(study):
            yield Finding(self.name, self.severity, **vars(hit))


def check(severity: Severity) -> Callable[[Callable[[Study], Iterable[Hit]]], Check]:
    """Makes a check of a function: its name with hyphens, and its docstring as `about`."""

    def made(run: Callable[[Study], Iterable[Hit]]) -> Check:
        about = (run.__doc__ or "").rstrip(".")
        return Check(run.__name__.replace("_", "-"), severity, _lowered(about), run)

    return made


def _lowered(text: str) -> str:
    """A sentence as part of a line; acronyms stay."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def recorded(name: str, severity: Severity, about: str) -> Check:
    """A check whose cases the readers of the annotations have recorded under its name."""

    def run(study: Study) -> Iterator[Hit]:
        for part in study.parts.values():
            for defect in part.defects:
                if defect.check == name:
                    file = str(defect.file)
                    yield Hit(part.name, file, defect.message, defect.box, defect.strength)

    return Check(name, severity, about, run)


def of_example(
    part: Part, example: Example, message: str, file: Path | None = None, box: Box | None = None
) -> Hit:
    """A hit in an image, or in another file of it."""
    shown = box if box is not None and all(map(math.isfinite, box)) else None
    return Hit(part.name, str(file or example.file), message, shown)


def of_part(part: Part, message: str) -> Hit:
    """A hit that concerns a whole split."""
    return Hit(part.name, "", message)
