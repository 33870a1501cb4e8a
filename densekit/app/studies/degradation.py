"""What the runs of the residual study say: tables of plain and residual twins, and the answer.

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
"""So far apart two means have to be to count as different."""
SIGNAL = "signal.json"
CURVE = Path("csv", "metrics.csv")
NETS = ("plain", "residual")


@dataclass(frozen=True, order=True)
class Twin:
    """One run of the study.

    Attributes:
        net: "plain" or "residual".
        depth: Layers with weights.
        seed: Of weights and order.
    """

    net: str
    depth: int
    seed: int

    def __str__(self) -> str:
        return f"{self.net}_{self.depth}_seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a run has measured.

    Attributes:
        train_error: Share of the training pictures that it gets wrong at the end, as in prediction.
        test_error: The same of the test pictures.
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
        contrast: Of training errors, what the claim is judged by.
        shown: Whether it holds at these settings; None if that cannot be said.
    """

    claim: str
    contrast: Contrast
    shown: bool | None

    def __str__(self) -> str:
        words = {True: "shown", False: "NOT shown", None: "not judged"}
        return f"{self.claim}: {words[self.shown]} (difference {self.contrast} points)"


def read_outcome(run: Path, head: str) -> Outcome | None:
    """What lies in a run folder, None as long as the run is not complete.

    Args:
        run: The folder.
        head: Name of the head whose accuracy is measured.

    Raises:
        ValueError: The run is complete but has no such accuracy.
    """
    metrics, signal = run / METRICS, run / SIGNAL
    if not metrics.is_file() or not signal.is_file():
        return None
    figures = json.loads(metrics.read_text("utf-8"))
    if not any(name.startswith("test/") for name in figures):
        return None
    name = f"{head}/accuracy"
    for stage in ("val", "test"):
        if f"{stage}/{name}" not in figures:
            raise ValueError(f"{metrics}: no {stage}/{name}, which the study is about")
    return Outcome(
        train_error=1 - figures[f"val/{name}"],
        test_error=1 - figures[f"test/{name}"],
        curve=_curve(run / CURVE, f"val/{name}"),
        signal=json.loads(signal.read_text("utf-8")),
    )


def contrast(plus: Sequence[Sequence[float]], minus: Sequence[Sequence[float]]) -> Contrast:
    """The sum of some groups' means less the sum of others', with two standard errors.

    Args:
        plus: Groups of independent values, one a seed.
        minus: Likewise.
    """
    value = sum(map(_mean, plus)) - sum(map(_mean, minus))
    squares = [_squared_error(group) for group in (*plus, *minus)]
    return Contrast(value, STANDARD_ERRORS * math.sqrt(sum(squares)))


def answers(outcomes: Outcomes, shallow: int, deep: int) -> list[Answer]:
    """The three claims that make the effect, by the training errors of two depths."""
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
    """One sentence for all claims together."""
    shown = [answer.shown for answer in found]
    if None in shown:
        return "Not judged: at least two seeds of every net are needed."
    if all(shown):
        return "Degradation is shown at these settings, and shortcuts remove it."
    return "Degradation is NOT shown at these settings."


def of_seeds(outcomes: Outcomes, net: str, depth: int) -> list[Outcome]:
    """The outcomes of one net, one a seed."""
    return [outcome for twin, outcome in outcomes.items() if (twin.net, twin.depth) == (net, depth)]


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; NaN for a single value."""
    return math.sqrt(_squared_error(values))


def gradient_ratio(outcomes: Outcomes, net: str, depth: int, when: str) -> float:
    """Geometric mean over seeds of the gradient's norm in the first over that in the last layer."""
    signals = [outcome.signal for outcome in of_seeds(outcomes, net, depth)]
    norms = [signal[when]["gradient"] for signal in signals if when in signal]
    return math.exp(statistics.fmean(math.log(norm[0] / norm[-1]) for norm in norms))


def groups(twins: Iterable[Twin]) -> list[tuple[str, int]]:
    """Kinds of net and their depths, in the order of the tables."""
    return sorted({(twin.net, twin.depth) for twin in twins})


def ends(twins: Iterable[Twin]) -> tuple[int, int]:
    """The least and the greatest depth that both kinds of net have.

    Raises:
        ValueError: There is only one depth, or one kind of net.
    """
    kinds = groups(twins)
    depths = [{depth for net, depth in kinds if net == kind} for kind in NETS]
    common = sorted(set.intersection(*depths))
    if len(common) < 2:
        raise ValueError(
            "a study compares plain and residual nets of two depths at least, such as"
            f" backbone.depth=20,44 backbone.residual=false,true; found in both: {common}"
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
