"""The metrics of one evaluation data set: built from the heads' recipes, updated, computed.

They stand outside the module tree: `LitModel` moves them to its device, and neither their state
nor the weights of a metric that has some can land in a checkpoint.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from densekit._names import unknown
from densekit.metrics.protocols import HasCases, HasConfusion, HasFacts
from densekit.training.sources import LOSS
from densekit.types import Result, Truth

if TYPE_CHECKING:
    from densekit.model import DenseModel

Made = TypeVar("Made")

Recipe = Metric | Callable[..., Metric]
"""A metric, or what builds one from entries of `info["heads"][HEAD]`, e.g. `partial(VocMap)`."""

Confusions = dict[str, tuple[list[str], NDArray[np.int64]]]
"""Head name to class names and confusion matrix, see `HasConfusion`."""

Recipes = Mapping[str, Mapping[str, Recipe]]
"""Head name to metric name to recipe."""


class Names(NamedTuple):
    """The names that a set of metrics will give its values.

    Attributes:
        modes: `HEAD/VALUE` to the better direction, "max" or "min", of the first value of each
            metric, the main one, where the metric says so; None for the others.
        unknown: Heads with a metric that knows its names only once it has seen an image.
    """

    modes: dict[str, str | None]
    unknown: list[str]


class MetricSet:
    """Metrics by head and name.

    Args:
        metrics: Head name to metric name to metric.
    """

    def __init__(self, metrics: Mapping[str, Mapping[str, Metric]]) -> None:
        self.metrics = {head: dict(named) for head, named in metrics.items()}

    def reset(self, device: torch.device) -> None:
        """Forgets everything, on the device that the results of the coming epoch lie on."""
        for named in self.metrics.values():
            for metric in named.values():
                metric.to(device).reset()

    def update(self, results: Sequence[Mapping[str, Result]], truth: list[Truth]) -> None:
        """Takes in the valid images of a batch; every rank calls it for every batch.

        Args:
            results: One dict by head per image.
            truth: One per image, in the same order.
        """
        for head, named in self.metrics.items():
            of_head = [result[head] for result in results]
            for metric in named.values():
                metric.update(of_head, truth)

    def compute(self) -> dict[str, Tensor]:
        """Values over all ranks together, named `HEAD/VALUE`.

        A name that two metrics of a head share becomes `HEAD/METRIC/VALUE` for the second.

        Raises:
            ValueError: Two values have one name, or one has that of a loss.
        """
        computed: dict[str, Tensor] = {}
        for head, name, metric in self:
            values = _as_dict(name, metric.compute())
            keys = _keys(head, name, values, computed)
            pairs = zip(keys, values.values(), strict=True)
            computed |= {key: torch.as_tensor(value) for key, value in pairs}
        return computed

    def names(self) -> Names:
        """The names that `compute` will give its values, before any image is seen.

        Raises:
            ValueError: Two values have one name, or one has that of a loss.
        """
        modes: dict[str, str | None] = {}
        unknown = []
        for head, name, metric in self:
            values = _of_no_image(name, metric)
            if values is None:
                unknown.append(head)
                continue
            keys = _keys(head, name, values, modes)
            modes |= dict.fromkeys(keys) | {key: _mode(metric) for key in keys[:1]}
        return Names(modes, unknown)

    def __iter__(self) -> Iterator[tuple[str, str, Metric]]:
        """Head, name and metric of each."""
        for head, named in self.metrics.items():
            for name, metric in named.items():
                yield head, name, metric

    def note_facts(self, info: dict[str, Any]) -> None:
        """Puts what predictions need of the last `compute` into a model's `info["heads"]`."""
        for head, _, metric in self:
            if isinstance(metric, HasFacts):
                info.setdefault("heads", {}).setdefault(head, {}).update(metric.facts())

    def cases(self) -> list[dict[str, Any]]:
        """One row per image and head, of the metrics that keep some; call `compute` before."""
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for head, _, metric in self:
            for case in metric.cases() if isinstance(metric, HasCases) else []:
                rows.setdefault((head, case["image_id"]), {"head": head}).update(case)
        return list(rows.values())

    def confusions(self) -> Confusions:
        """Class names and confusion matrix of each head that has one; call `compute` before."""
        return {
            head: (metric.names, metric.confusion())
            for head, _, metric in self
            if isinstance(metric, HasConfusion)
        }


def build_metrics(model: DenseModel, heads: Iterable[str] | None, recipes: Recipes) -> MetricSet:
    """Builds fresh metrics for the heads that a data set evaluates.

    Args:
        model: Its heads make their own metrics; `info["heads"][HEAD]` is what recipes are given.
        heads: Names of the heads that the data set has the truth of; None, all.
        recipes: Replaces the own metrics of the heads it names.

    Raises:
        ValueError: A metric cannot be built; the message begins with its key.
    """
    built: dict[str, dict[str, Metric]] = {}
    for name in model.heads if heads is None else heads:
        info = model.info.get("heads", {}).get(name, {})
        if name in recipes:
            built[name] = {
                key: _named(f"metrics.{name}.{key}", partial(build_metric, recipe, info))
                for key, recipe in recipes[name].items()
            }
        else:
            make = partial(model.heads[name].make_metrics, info)
            built[name] = _named(f"heads.{name}.make_metrics", make)
    return MetricSet(built)


def check_heads(recipes: Recipes, heads: Iterable[str]) -> None:
    """Refuses metrics of a head that does not exist, and a head named like the total loss.

    Raises:
        ValueError: With the nearest name.
    """
    known = list(heads)
    if LOSS in known:
        raise ValueError(f"heads.{LOSS}: expected another name, got that of the total loss")
    for head in recipes:
        if head not in known:
            raise ValueError(unknown("metrics", head, known))


def _named(key: str, make: Callable[[], Made]) -> Made:
    """What is made; an error of whatever kind, of a plug-in too, comes with its key."""
    try:
        return make()
    except Exception as error:
        raise ValueError(f"{key}: {type(error).__name__}: {error}") from error


def build_metric(recipe: Recipe, info: Mapping[str, Any]) -> Metric:
    """A fresh metric of a recipe, with the entries of `info` that it takes."""
    if isinstance(recipe, Metric):
        return recipe.clone()  # validation and test, and every data set, count for themselves
    accepted = inspect.signature(recipe).parameters
    return recipe(**{name: value for name, value in info.items() if name in accepted})


def _keys(head: str, name: str, values: Mapping[str, Any], taken: Container[str]) -> list[str]:
    """The names of a metric's values, beside those that are taken."""
    keys: list[str] = []
    for value in values:
        key = f"{head}/{value}"
        key = f"{head}/{name}/{value}" if key in taken else key
        if key in taken or key in keys:
            raise ValueError(
                f"metrics.{head}.{name}: expected names of its own, got {key!r} twice; rename"
                " the metric or its value"
            )
        if key.split("/")[1] == LOSS:
            raise ValueError(
                f"metrics.{head}.{name}: expected another name than {key!r}: {head}/{LOSS} is where"
                " the terms of the loss are logged"
            )
        keys.append(key)
    return keys


def _of_no_image(name: str, metric: Metric) -> Mapping[str, Any] | None:
    """What a fresh metric computes of nothing, None if it cannot."""
    with warnings.catch_warnings(), _silent(logging.getLogger("densekit.metrics")):
        warnings.simplefilter("ignore")
        try:
            return _as_dict(name, metric.clone().compute())
        except Exception:  # a metric need not know what to do without an image
            return None


@contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    """Keeps a log quiet: that nothing was measured is no news here."""
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _mode(metric: Metric) -> str | None:
    higher = metric.higher_is_better
    return None if higher is None else "max" if higher else "min"


def _as_dict(name: str, computed: Any) -> Mapping[str, Any]:
    return computed if isinstance(computed, Mapping) else {name: computed}
