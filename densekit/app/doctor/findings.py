"""What a check is and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from densekit.app.doctor.facts import Example, Part, Study


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
    """

    split: str
    file: str
    message: str


@dataclass(frozen=True)
class Finding:
    """A hit together with its check.

    Attributes:
        check: Name of the check.
        severity: How bad it is.
        split: The split, empty if it concerns the whole data set.
        file: The file, empty if it concerns none.
        message: What was found.
    """

    check: str
    severity: Severity
    split: str
    file: str
    message: str

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
            yield Finding(self.name, self.severity, hit.split, hit.file, hit.message)


def check(severity: Severity) -> Callable[[Callable[[Study], Iterable[Hit]]], Check]:
    """Makes a check of a function: its name with hyphens, and its docstring as `about`."""

    def made(run: Callable[[Study], Iterable[Hit]]) -> Check:
        about = (run.__doc__ or "").rstrip(".")
        return Check(run.__name__.replace("_", "-"), severity, about[:1].lower() + about[1:], run)

    return made


def recorded(name: str, severity: Severity, about: str) -> Check:
    """A check whose cases the readers of the annotations have recorded under its name."""

    def run(study: Study) -> Iterator[Hit]:
        for part in study.parts.values():
            for defect in part.defects:
                if defect.check == name:
                    yield Hit(part.name, str(defect.file), defect.message)

    return Check(name, severity, about, run)


def of_example(part: Part, example: Example, message: str, file: Path | None = None) -> Hit:
    """A hit in an image, or in another file of it."""
    return Hit(part.name, str(file or example.file), message)


def of_part(part: Part, message: str) -> Hit:
    """A hit that concerns a whole split."""
    return Hit(part.name, "", message)
