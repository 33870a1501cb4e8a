"""The contract of a metric: a function of all images, whatever order and process they come in."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from torchmetrics import Metric

from densekit.metrics.protocols import HasCases, HasConfusion, HasFacts
from densekit.testing.compare import difference
from densekit.testing.contract import Check, prove
from densekit.testing.processes import run_distributed
from densekit.testing.samples import synthetic_results
from densekit.types import Result, Truth

CLASSES = 3
Values = dict[str, float]


@dataclass(frozen=True)
class MetricSubject:
    """A metric under test, and images whose results it is given.

    Attributes:
        metric: Fresh; every check takes a clone.
        results: One per image, in the image's original frame.
        truth: The annotation of each.
        names: Class names, which per-class values are named by.
    """

    metric: Metric
    results: Sequence[Result]
    truth: Sequence[Truth]
    names: Sequence[str] = field(default=())

    def values(self, batches: Iterable[Sequence[int]], metric: Metric | None = None) -> Values:
        """What a clone, or the given metric, computes of these batches of images."""
        metric = self.metric.clone() if metric is None else metric
        for batch in batches:
            self.update(metric, batch)
        return as_values(metric)

    def update(self, metric: Metric, images: Sequence[int]) -> None:
        """Gives a metric the results of some images."""
        metric.update([self.results[i] for i in images], [self.truth[i] for i in images])

    @property
    def all(self) -> list[int]:
        """The number of every image."""
        return list(range(len(self.results)))


def check_metric(
    metric: Metric,
    results: Sequence[Result] | None = None,
    truth: Sequence[Truth] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Puts a metric to every check of the contract.

    Args:
        metric: Fresh, on the CPU. It must pickle: one check runs in two processes.
        results: Of three or more images; by default of made-up pictures of three classes, with
            boxes, masks, probabilities and embeddings.
        truth: The annotation of each.
        names: Class names, which per-class values `METRIC/CLASS` are named by.

    Raises:
        AssertionError: Naming each check that failed, what it asks and what was found.
    """
    if results is None or truth is None:
        results, truth = synthetic_results(CLASSES)
    prove(MetricSubject(metric, results, truth, names), CHECKS)


def as_values(metric: Metric) -> Values:
    """What a metric computes: name to number; one number alone has the name of its class."""
    computed = metric.compute()
    named = computed if isinstance(computed, Mapping) else {type(metric).__name__: computed}
    values = {}
    for name, value in named.items():
        one = isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim == 0)
        assert one, f"{name} is {value!r}, not one number"
        values[name] = float(value)
    return values


def _declares(subject: MetricSubject) -> None:
    metric = subject.metric
    assert isinstance(metric, Metric), f"{type(metric).__name__} is no torchmetrics.Metric"
    better = metric.higher_is_better
    assert better in (True, False, None), f"higher_is_better is {better!r}"


def _numbers(subject: MetricSubject) -> None:
    values = subject.values([subject.all])
    assert values, "compute gives nothing"
    main = next(iter(values))
    assert np.isfinite(values[main]), f"{main}, the main value, is {values[main]} of these images"
    for name in values:
        assert isinstance(name, str), f"{name!r} is no name"
        _, slash, of_class = name.partition("/")
        known = not slash or not subject.names or of_class in subject.names
        assert known, f"{name} is named after no class of {list(subject.names)}"


def _nothing(subject: MetricSubject) -> None:
    expected = list(subject.values([subject.all]))
    no_image: list[int] = []
    for batches in ([], [no_image]):
        with _reasons() as reasons:
            values = subject.values(batches)
        assert list(values) == expected, f"{list(values)} of no image, {expected} of some"
        main = expected[0]
        assert np.isnan(values[main]), f"{main} of no image is {values[main]}, not nan"
        assert reasons, f"{main} is nan, and neither a log nor a warning says why"


def _appends(subject: MetricSubject) -> None:
    metric = subject.metric.clone()
    lists = [name for name, default in metric._defaults.items() if isinstance(default, list)]
    for images in (subject.all[:1], [], subject.all[1:]):
        before = {name: len(getattr(metric, name)) for name in lists}
        subject.update(metric, images)
        for name in lists:
            state = getattr(metric, name)
            grown = len(state) - before[name]
            assert grown == 1, f"update of {len(images)} images appends {grown} tensors to {name}"
            assert isinstance(state[-1], Tensor), f"{name} holds {type(state[-1]).__name__}"


def _order(subject: MetricSubject) -> None:
    _check_same(subject, subject.values([subject.all[::-1]]), "in reverse order")


def _batches(subject: MetricSubject) -> None:
    _check_same(subject, subject.values([[i] for i in subject.all]), "one image at a time")


def _resets(subject: MetricSubject) -> None:
    metric = subject.metric.clone()
    subject.update(metric, subject.all[:2])
    metric.reset()
    _check_same(subject, subject.values([subject.all], metric), "after a reset")
    _check_same(subject, as_values(metric), "computed twice")


def _leaves_inputs(subject: MetricSubject) -> None:
    given = [copy.deepcopy(list(value)) for value in (subject.results, subject.truth)]
    metric = subject.metric.clone()
    metric.update(*given)
    as_values(metric)
    for name, before, after in zip(
        ("results", "truth"), (subject.results, subject.truth), given, strict=True
    ):
        key = difference(list(before), after)
        assert not key, f"{name}: {key} was changed"


def _two_processes(subject: MetricSubject) -> None:
    for what, ranks in (
        ("in two processes", [subject.all[:1], subject.all[1:]]),
        ("in two processes, one without an image", [[], subject.all]),
    ):
        for values in run_distributed(_rank, 2, subject, ranks):
            _check_same(subject, values, what)


def _rank(rank: int, subject: MetricSubject, ranks: Sequence[Sequence[int]]) -> Values:
    return subject.values([ranks[rank]])


def _offers(subject: MetricSubject) -> None:
    metric = subject.metric.clone()
    subject.values([subject.all], metric)
    if isinstance(metric, HasCases):
        found = sorted(case["image_id"] for case in metric.cases())
        expected = sorted(int(truth["image_id"]) for truth in subject.truth)
        assert found == expected, f"cases() has rows of images {found}, it was given {expected}"
        json.dumps(metric.cases())
    if isinstance(metric, HasConfusion):
        shape, number = np.shape(metric.confusion()), len(metric.names)
        assert shape == (number, number), f"confusion() is {shape} for {number} names"
    if isinstance(metric, HasFacts):
        json.dumps(metric.facts())


def _check_same(subject: MetricSubject, values: Values, what: str) -> None:
    expected = subject.values([subject.all])
    assert list(values) == list(expected), f"{what} it gives {list(values)}, else {list(expected)}"
    for name, value in expected.items():
        same = value == values[name] or (np.isnan(value) and np.isnan(values[name]))
        assert same, f"{name} is {values[name]} {what}, {value} else"


@contextmanager
def _reasons() -> Iterator[list[str]]:
    """What is logged or warned of meanwhile."""
    reasons: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reasons.append(record.getMessage())

    handler, own = Keeps(logging.WARNING), logging.getLogger("densekit")
    propagate, handlers = own.propagate, own.handlers
    logging.getLogger().addHandler(handler)
    own.propagate, own.handlers = True, []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield reasons
            # torchmetrics' own word on compute before update says nothing of this metric
            reasons += [str(w.message) for w in caught if "before the ``update``" not in str(w)]
    finally:
        own.propagate, own.handlers = propagate, handlers
        logging.getLogger().removeHandler(handler)


CHECKS = (
    Check(
        "declares",
        "it is a torchmetrics.Metric; `higher_is_better` is True, False or None",
        _declares,
    ),
    Check("leaves inputs alone", "results and truth stay: other metrics read them", _leaves_inputs),
    Check(
        "numbers",
        "`compute` gives numbers by name, the main one first; those of a class are METRIC/CLASS",
        _numbers,
    ),
    Check(
        "nothing",
        "without an image the names are the same, the main value is nan and the reason is said",
        _nothing,
    ),
    Check(
        "appends",
        "every update appends one tensor to each list of its state, of no row without an image:"
        " processes have to agree on what they gather",
        _appends,
    ),
    Check("order", "the order of the images does not change a value", _order),
    Check("batches", "how images are dealt into batches does not change a value", _batches),
    Check("resets", "`reset` forgets all images; `compute` may be called again", _resets),
    Check(
        "offers", "`cases`, `confusion` and `facts`, where there are some, are well-formed", _offers
    ),
    Check("two processes", "two processes give the values of one, to the bit", _two_processes),
)
"""What the contract asks of a metric."""
