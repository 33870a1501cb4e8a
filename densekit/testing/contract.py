"""A contract as a list of points, each a function that fails with what was found."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One point of a contract.

    Attributes:
        name: Short.
        asks: What the contract asks, and why.
        run: Raises if the subject does not keep it.
    """

    name: str
    asks: str
    run: Callable[[Subject], None]


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    Attributes:
        name: Of the check.
        asks: What the contract asks.
        error: What was found instead, None if the check passed.
    """

    name: str
    asks: str
    error: str | None


def report(subject: Subject, checks: Sequence[Check[Subject]]) -> list[Outcome]:
    """Runs the checks in order; none is left out because another failed."""
    return [Outcome(check.name, check.asks, _error_of(check, subject)) for check in checks]


def prove(subject: Subject, checks: Sequence[Check[Subject]]) -> None:
    """Runs the checks.

    Raises:
        AssertionError: Naming each check that failed, what it asks and what was found.
    """
    failed = [outcome for outcome in report(subject, checks) if outcome.error is not None]
    lines = [f"{o.name}: {o.asks}\n    found: {o.error}" for o in failed]
    assert not failed, "\n".join([f"{len(failed)} of {len(checks)} checks failed", *lines])


def _error_of(check: Check[Subject], subject: Subject) -> str | None:
    try:
        check.run(subject)
    except AssertionError as error:
        return str(error)
    except Exception as error:  # a plug-in may fail in any way
        frame = traceback.extract_tb(error.__traceback__)[-1]
        lines = str(error).strip().splitlines() or [""]
        of_process = "Traceback (most recent call last)" in lines[0]
        said = lines[-1] if of_process else lines[0]
        return f"{type(error).__name__}: {said} ({frame.filename}:{frame.lineno})"
    return None
