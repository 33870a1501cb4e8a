"""Contract tests of a metric, whose values must not depend on order, batches and processes."""

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
from densekit.training.sources import LOSS
from densekit.types import Result, Truth

CLASSES = 3
Values = dict[str, float]


@dataclass(frozen=True)
class MetricSubject:
    """A metric under test, with the results and the ground truth of some images.

    Attributes:
        metric: Fresh; every check uses a clone.
        results: One per image, in the image's original frame.
        truth: The annotation of each.
        names: Class names that occur in the names of per-class values.
    """

    metric: Metric
    results: Sequence[Result]
    truth: Sequence[Truth]
    names: Sequence[str] = field(default=())

    def values(self, batches: Iterable[Sequence[int]], metric: Metric | None = None) -> Values:
        """Updates a clone, or the given metric, with batches of image indices and computes it."""
        metric = self.metric.clone() if metric is None else metric
        for batch in batches:
            self.update(metric, batch)
        return as_values(metric)

    def update(self, metric: Metric, images: Sequence[int]) -> None:
        """Updates a metric with the results of some images."""
        metric.update([self.results[i] for i in images], [self.truth[i] for i in images])

    @property
    def all(self) -> list[int]:
        """Indices of all images."""
        return list(range(len(self.results)))


def check_metric(
    metric: Metric,
    results: Sequence[Result] | None = None,
    truth: Sequence[Truth] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Runs every contract test on a metric.

    Args:
        metric: Fresh, on the CPU. It must pickle: one check runs in two processes.
        results: Of three or more images; by default synthetic ones of three classes, with boxes,
            masks, probabilities and embeddings.
        truth: The annotation of each.
        names: Class names, as in the names of per-class values, `METRIC/CLASS`.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    if results is None or truth is None:
        results, truth = synthetic_results(CLASSES)
    prove(MetricSubject(metric, results, truth, names), CHECKS)


def as_values(metric: Metric) -> Values:
    """Computes a metric as name to number; a single number is named after the metric's class."""
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
    assert isinstance(metric, Metric), f"{type(metric).__name__} is not a torchmetrics.Metric"
    better = metric.higher_is_better
    assert better in (True, False, None), f"higher_is_better is {better!r}"


def _numbers(subject: MetricSubject) -> None:
    values = subject.values([subject.all])
    assert values, "compute returns no value"
    main = next(iter(values))
    assert np.isfinite(values[main]), f"{main}, the main value, is {values[main]} for these images"
    for name in values:
        assert isinstance(name, str), f"the name {name!r} is not a string"
        value, slash, of_class = name.partition("/")
        assert value != LOSS, f"{name}: expected a name other than {LOSS} and {LOSS}/..."
        known = not slash or not subject.names or of_class in subject.names
        assert known, f"{name} does not name a class of {list(subject.names)}"


def _nothing(subject: MetricSubject) -> None:
    expected = list(subject.values([subject.all]))
    no_image: list[int] = []
    for batches in ([], [no_image]):
        with _reasons() as reasons:
            values = subject.values(batches)
        assert list(values) == expected, f"{list(values)} without images, {expected} with some"
        main = expected[0]
        assert np.isnan(values[main]), f"{main} without images is {values[main]}, not nan"
        assert reasons, f"{main} is nan, but neither a log message nor a warning says why"


def _appends(subject: MetricSubject) -> None:
    metric = subject.metric.clone()
    lists = [name for name, default in metric._defaults.items() if isinstance(default, list)]
    for images in (subject.all[:1], [], subject.all[1:]):
        before = {name: len(getattr(metric, name)) for name in lists}
        subject.update(metric, images)
        for name in lists:
            state = getattr(metric, name)
            grown = len(state) - before[name]
            assert grown == 1, f"update with {len(images)} images appends {grown} tensors to {name}"
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
        assert found == expected, f"cases() has rows for images {found}, not for {expected}"
        json.dumps(metric.cases())
    if isinstance(metric, HasConfusion):
        shape, number = np.shape(metric.confusion()), len(metric.names)
        accepted = [(count, count) for count in (number, number + 1)]  # with the background
        assert shape in accepted, f"confusion() has shape {shape} for {number} names"
    if isinstance(metric, HasFacts):
        json.dumps(metric.facts())


def _check_same(subject: MetricSubject, values: Values, what: str) -> None:
    expected = subject.values([subject.all])
    assert list(values) == list(expected), f"{list(values)} {what}, otherwise {list(expected)}"
    for name, value in expected.items():
        same = value == values[name] or (np.isnan(value) and np.isnan(values[name]))
        assert same, f"{name} is {values[name]} {what}, otherwise {value}"


@contextmanager
def _reasons() -> Iterator[list[str]]:
    """Collects the log messages and warnings issued within the context."""
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
            # torchmetrics' own warning about compute before update does not come from this metric
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
    Check(
        "leaves inputs alone",
        "results and truth are not changed, as other metrics read them",
        _leaves_inputs,
    ),
    Check(
        "numbers",
        "`compute` returns name to number, the main one first; per-class names are METRIC/CLASS;"
        " `loss` and `loss/...` are reserved for the terms of the loss",
        _numbers,
    ),
    Check(
        "nothing",
        "without images the names are the same, the main value is nan and the reason is reported",
        _nothing,
    ),
    Check(
        "appends",
        "every update appends one tensor, without images an empty one, to each list of its state:"
        " processes must agree on what they gather",
        _appends,
    ),
    Check("order", "the order of the images does not change a value", _order),
    Check("batches", "the division of images into batches does not change a value", _batches),
    Check("resets", "`reset` forgets all images; `compute` may be called again", _resets),
    Check("offers", "`cases`, `confusion` and `facts`, if present, are well-formed", _offers),
    Check("two processes", "two processes compute the values of one, bit for bit", _two_processes),
)
"""Requirements of every metric."""
