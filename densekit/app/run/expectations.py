"""The results that an experiment is expected to reach, beside those that a run has measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from densekit._names import unknown
from densekit.app.errors import UnmetError, UsageError
from densekit.app.terminal import STAGES, number_text, print_numbers, read_metrics

if TYPE_CHECKING:
    from densekit.training.monitors import Logged

FIELDS = ("value", "tolerance")


class Expectation(NamedTuple):
    """A result of the literature, or one measured before.

    Attributes:
        value: The metric.
        tolerance: Largest difference that still counts as reproduced.
    """

    value: float
    tolerance: float

    def is_met(self, measured: float) -> bool:
        """Whether a measured value is within the tolerance; NaN is not."""
        return abs(measured - self.value) <= self.tolerance * (1 + 1e-9)


def expectations(node: Any, stages: tuple[str, ...] = STAGES) -> dict[str, Expectation]:
    """Reads the key `expected` of a configuration.

    Args:
        node: Metric, such as `test/detection/AP`, to its `value` and `tolerance`.
        stages: Stages to keep, "val" or "test".

    Raises:
        UsageError: An entry is not such a pair of numbers.
    """
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        raise UsageError(f"expected: expected metrics with value and tolerance, got {node!r}")
    return {
        str(name): _expectation(f"expected.{name}", entry)
        for name, entry in node.items()
        if str(name).partition("/")[0] in stages or str(name).partition("/")[0] not in STAGES
    }


def check_names(expected: Mapping[str, Expectation], logged: Mapping[str, Logged]) -> None:
    """Refuses an expected metric that no evaluation of the run will measure.

    Args:
        expected: See `expectations`.
        logged: "val" or "test" to what will be logged, for the stages of the run; metrics of a
            stage without data are left out.

    Raises:
        UsageError: Names the nearest metric.
    """
    run = {stage: names for stage, names in logged.items() if names.modes or names.open}
    for name in expected:
        stage = name.partition("/")[0]
        if stage in logged and stage not in run:
            continue
        if not any(of_stage.may_hold(name) for of_stage in run.values()):
            known = sorted((key for one in run.values() for key in one.modes), key=_depth)
            raise UsageError(unknown("expected", name, known))


def check_asserted(expected: Mapping[str, Expectation], why: str = "an experiment without") -> None:
    """Refuses to assert nothing.

    Raises:
        UsageError: There is no expected metric.
    """
    if not expected:
        raise UsageError(f"assert_expected: expected metrics under expected, got {why}")


def report_expected(
    expected: Mapping[str, Expectation], file: Path, *, asserted: bool = False
) -> None:
    """Prints expected beside measured metrics.

    Args:
        expected: See `expectations`.
        file: `metrics.json` of the run.
        asserted: Whether each must be met.

    Raises:
        UnmetError: One is not, and `asserted` is true; one line per metric.
    """
    if not expected:
        return
    measured = read_metrics(file) if file.exists() else {}
    rows, unmet = [], []
    for name, wanted in expected.items():
        found = measured.get(name, math.nan)
        met = wanted.is_met(found)
        verdict = "within" if met else "not measured" if math.isnan(found) else "outside"
        shown = number_text(measured.get(name))
        rows.append([name, shown, f"{wanted.value:g}", f"{wanted.tolerance:g}", verdict])
        if not met:
            unmet.append(
                f"{name}: expected {wanted.value:g} +- {wanted.tolerance:g}, got"
                f" {shown or 'no such measurement'}"
            )
    print_numbers(["metric", "measured", "expected", "tolerance", ""], rows, "Expected results")
    if asserted and unmet:
        raise UnmetError("\n".join(unmet))


def _expectation(key: str, entry: Any) -> Expectation:
    accepted = "{value: NUMBER, tolerance: NUMBER of at least 0}"
    if not isinstance(entry, Mapping) or set(entry) != set(FIELDS):
        raise UsageError(f"{key}: expected {accepted}, got {entry!r}")
    numbers = [entry[field] for field in FIELDS]
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers):
        raise UsageError(f"{key}: expected {accepted}, got {entry!r}")
    if entry["tolerance"] < 0:
        raise UsageError(f"{key}: expected {accepted}, got {entry!r}")
    return Expectation(float(entry["value"]), float(entry["tolerance"]))


def _depth(name: str) -> int:
    """Overall metrics are listed before those of single classes."""
    return name.count("/")
