"""Outcomes of the residual study: errors of plain and residual twins, and the conclusion.

Paper: Deep Residual Learning for Image Recognition, sections 1 and 4.2.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from densekit.app.run.earlier_logs import logged_rows
from densekit.app.run.folder import METRICS

STANDARD_ERRORS = 2.0
"""Two means count as different if they are further apart than this."""
SIGNAL = "signal.json"
CURVE = Path("csv", "metrics.csv")
NETS = ("plain", "residual")


@dataclass(frozen=True, order=True)
class Twin:
    """One run of the study.

    Attributes:
        net: "plain" or "residual".
        depth: Layers with weights.
        seed: Seed of the weights and of the order of the images.
    """

    net: str
    depth: int
    seed: int

    def __str__(self) -> str:
        return f"{self.net}_{self.depth}_seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """The measurements of a run.

    Attributes:
        train_error: Share of misclassified training images at the end, in evaluation mode.
        test_error: Share of misclassified test images.
        curve: Optimiser step and training error after it.
        signal: `start` and `end` of `densekit.training.SignalFile`.
    """

    train_error: float
    test_error: float
    curve: list[tuple[int, float]]
    signal: dict[str, dict[str, list[float]]]


Outcomes = Mapping[Twin, Outcome]


@dataclass(frozen=True)
class Contrast:
    """A difference of means over seeds.

    Attributes:
        value: The difference; NaN if a group has no seed.
        margin: Two standard errors of it; NaN if a group has no more than one.
    """

    value: float
    margin: float

    @property
    def above(self) -> bool:
        """Whether the difference is more than two standard errors above zero."""
        return self.value > self.margin

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} ± {100 * self.margin:.1f}"


@dataclass(frozen=True)
class Answer:
    """One claim and whether the runs show it.

    Attributes:
        claim: A sentence.
        contrast: The difference of training errors that decides the claim.
        shown: Whether it holds at these settings; None if that cannot be decided.
    """

    claim: str
    contrast: Contrast
    shown: bool | None

    def __str__(self) -> str:
        verdicts = {True: "shown", False: "NOT shown", None: "not judged"}
        return f"{self.claim}: {verdicts[self.shown]} (difference {self.contrast} points)"


def read_outcome(run: Path, head: str) -> Outcome | None:
    """Reads the outcome from a run folder; None while the run is not complete.

    Args:
        run: The folder.
        head: Name of the head whose accuracy is read.

    Raises:
        ValueError: The run is complete but has no such accuracy.
    """
    metrics, signal = run / METRICS, run / SIGNAL
    if not metrics.is_file() or not signal.is_file():
        return None
    values = json.loads(metrics.read_text("utf-8"))
    if not any(name.startswith("test/") for name in values):
        return None
    name = f"{head}/accuracy"
    for stage in ("val", "test"):
        if f"{stage}/{name}" not in values:
            raise ValueError(
                f"{metrics}: expected {stage}/{name}, which the study compares, got none"
            )
    return Outcome(
        train_error=1 - values[f"val/{name}"],
        test_error=1 - values[f"test/{name}"],
        curve=_curve(run / CURVE, f"val/{name}"),
        signal=json.loads(signal.read_text("utf-8")),
    )


def contrast(plus: Sequence[Sequence[float]], minus: Sequence[Sequence[float]]) -> Contrast:
    """The sum of the means of `plus` less that of `minus`, with two standard errors.

    Args:
        plus: Groups of independent values, one per seed.
        minus: Likewise.
    """
    value = sum(map(_mean, plus)) - sum(map(_mean, minus))
    squares = [_squared_error(group) for group in (*plus, *minus)]
    return Contrast(value, STANDARD_ERRORS * math.sqrt(sum(squares)))


def answers(outcomes: Outcomes, shallow: int, deep: int) -> list[Answer]:
    """Judges the three claims that make up degradation by the training errors of two depths."""
    errors = {
        (net, depth): [outcome.train_error for outcome in of_seeds(outcomes, net, depth)]
        for net in NETS
        for depth in (shallow, deep)
    }
    plain = contrast([errors["plain", deep]], [errors["plain", shallow]])
    residual = contrast([errors["residual", deep]], [errors["residual", shallow]])
    both = contrast(
        [errors["plain", deep], errors["residual", shallow]],
        [errors["plain", shallow], errors["residual", deep]],
    )
    rows = [
        (f"a plain net of {deep} layers trains worse than one of {shallow}", plain, plain.above),
        (f"a residual net of {deep} layers does not", residual, not residual.above),
        ("depth costs the plain net more than the residual one", both, both.above),
    ]
    return [
        Answer(claim, found, None if math.isnan(found.margin) else shown)
        for claim, found, shown in rows
    ]


def verdict(found: Iterable[Answer]) -> str:
    """Sums up all claims in one sentence."""
    shown = [answer.shown for answer in found]
    if None in shown:
        return "Not judged: every network needs at least two seeds."
    if all(shown):
        return "Degradation is shown at these settings, and shortcuts remove it."
    return "Degradation is NOT shown at these settings."


def of_seeds(outcomes: Outcomes, net: str, depth: int) -> list[Outcome]:
    """The outcomes of one network, one per seed."""
    return [outcome for twin, outcome in outcomes.items() if (twin.net, twin.depth) == (net, depth)]


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean; NaN for a single value."""
    return math.sqrt(_squared_error(values))


def gradient_ratio(outcomes: Outcomes, net: str, depth: int, when: str) -> float:
    """Geometric mean over seeds: gradient norm of the first layer over that of the last."""
    signals = [outcome.signal for outcome in of_seeds(outcomes, net, depth)]
    norms = [signal[when]["gradient"] for signal in signals if when in signal]
    return math.exp(statistics.fmean(math.log(norm[0] / norm[-1]) for norm in norms))


def groups(twins: Iterable[Twin]) -> list[tuple[str, int]]:
    """Pairs of kind of network and depth, in the order of the tables."""
    return sorted({(twin.net, twin.depth) for twin in twins})


def ends(twins: Iterable[Twin]) -> tuple[int, int]:
    """The smallest and the largest depth that both kinds of network have.

    Raises:
        ValueError: There is only one depth, or one kind of network.
    """
    kinds = groups(twins)
    depths = [{depth for net, depth in kinds if net == kind} for kind in NETS]
    common = sorted(set.intersection(*depths))
    if len(common) < 2:
        raise ValueError(
            "backbone.depth: expected at least two depths of both plain and residual networks, got"
            f" {common}; for example backbone.depth=20,44 backbone.residual=false,true"
        )
    return common[0], common[-1]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _squared_error(values: Sequence[float]) -> float:
    """The variance of the mean."""
    if len(values) < 2:
        return math.nan
    return statistics.variance(values) / len(values)


def _curve(file: Path, name: str) -> list[tuple[int, float]]:
    rows = logged_rows(file)
    return [(int(row["step"]) + 1, 1 - float(row[name])) for row in rows if name in row]
