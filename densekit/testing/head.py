"""The contract of a head, check by check, on a small model.

Each check says what the contract asks and why; a failure says what was found.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from densekit.testing.checks import CHECKS, Check
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.subject import HeadMaker, Subject
from densekit.types import Sample, TargetSpec


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Attributes:
        check: The check.
        error: What was found, None if all is well.
    """

    check: Check
    error: str | None


def check_head(
    make: HeadMaker,
    num_classes: int = 3,
    *,
    multilabel: bool = False,
    spatial_dims: int = 2,
    samples: Sequence[Sample] | None = None,
    target_specs: Mapping[str, TargetSpec] | None = None,
) -> None:
    """Puts a head to every check of the contract; it takes about half a minute.

    Args:
        make: Builds the head on the specs of every level, `partial(MyHead, num_classes=3)`. It must
            pickle: one check runs in two processes.
        num_classes: Of the synthetic samples.
        multilabel: Likewise.
        spatial_dims: Likewise.
        samples: Two to eight training samples of your own, for heads with targets of their own
            (`extra`); no axis shorter than 32.
        target_specs: How collate stacks these targets.

    Raises:
        AssertionError: Naming each check that failed, what it asks and what was found.
    """
    if samples is None:
        samples = synthetic_samples(num_classes, multilabel=multilabel, spatial_dims=spatial_dims)
    subject = Subject(make, samples, target_specs or {}, synthetic_info(num_classes))
    failed = [outcome for outcome in head_report(subject, CHECKS) if outcome.error is not None]
    lines = [f"{o.check.name}: {o.check.asks}\n    found: {o.error}" for o in failed]
    assert not failed, "\n".join([f"{len(failed)} of {len(CHECKS)} checks failed", *lines])


def head_report(subject: Subject, checks: Sequence[Check]) -> list[Outcome]:
    """Runs the checks in order; none is left out because another failed."""
    return [Outcome(check, _error_of(check, subject)) for check in checks]


def _error_of(check: Check, subject: Subject) -> str | None:
    try:
        check.run(subject)
    except AssertionError as error:
        return str(error)
    except Exception as error:  # a head may fail in any way
        frame = traceback.extract_tb(error.__traceback__)[-1]
        first = str(error).strip().splitlines()[:1] or [""]
        return f"{type(error).__name__}: {first[0]} ({frame.filename}:{frame.lineno})"
    return None
