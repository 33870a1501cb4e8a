"""A contract is a list of checks, each a function that raises if the subject violates it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One requirement of a contract.

    Attributes:
        name: Short name.
        asks: The requirement, and why.
        run: Raises if the subject violates it.
    """

    name: str
    asks: str
    run: Callable[[Subject], None]


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    Attributes:
        name: Of the check.
        asks: The requirement.
        error: What was found instead, None if the check passed.
    """

    name: str
    asks: str
    error: str | None


def report(subject: Subject, checks: Sequence[Check[Subject]]) -> list[Outcome]:
    """Runs all checks in order, whether or not others fail."""
    return [Outcome(check.name, check.asks, _error_of(check, subject)) for check in checks]


def prove(subject: Subject, checks: Sequence[Check[Subject]]) -> None:
    """Runs all checks and fails if any of them does.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
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
        message = lines[-1] if of_process else lines[0]
        return f"{type(error).__name__}: {message} ({frame.filename}:{frame.lineno})"
    return None
