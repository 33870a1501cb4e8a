"""The metrics of one evaluation data set: built per head, updated and computed.

They are not submodules: `LitModel` moves them to its device, and neither their state nor the
weights that some metrics have end up in checkpoints.
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
from densekit.evaluation import Measured
from densekit.metrics.bootstrap import Interval, draws, intervals
from densekit.metrics.protocols import HasCases, HasConfusion, HasFacts, HasResamples
from densekit.metrics.rows import RowMetric
from densekit.ops import dist
from densekit.training.chosen_images import CaseValues
from densekit.training.sources import LOSS
from densekit.types import Result, Truth

if TYPE_CHECKING:
    from densekit.heads.base import Head
    from densekit.heads.combination import Combination
    from densekit.model import DenseModel

Made = TypeVar("Made")

Recipe = Metric | Callable[..., Metric]
"""A metric, or a callable that builds one from entries of `info["heads"][HEAD]`."""

Confusions = dict[str, tuple[list[str], NDArray[np.int64]]]
"""Head name to class names and confusion matrix, see `HasConfusion`."""

Recipes = Mapping[str, Mapping[str, Recipe]]
"""Head name to metric name to recipe."""


class Names(NamedTuple):
    """The names of the values that a set of metrics will compute.

    Attributes:
        modes: `HEAD/VALUE` to the better direction, "max" or "min", for the first (main) value of
            each metric that declares it; None for the others.
        unknown: Heads with a metric whose names are unknown until it has seen an image.
    """

    modes: dict[str, str | None]
    unknown: list[str]


class MetricSet:
    """Updates and computes the metrics of several heads.

    Args:
        metrics: Head name to metric name to metric.

    Attributes:
        intervals: `HEAD/VALUE` to its interval, once they were drawn.
        groups: Image id to what the image is drawn with, if it is not drawn by itself; of all
            processes after `compute`.
    """

    def __init__(self, metrics: Mapping[str, Mapping[str, Metric]]) -> None:
        self.metrics = {head: dict(named) for head, named in metrics.items()}
        self.intervals: dict[str, Interval] = {}
        self.groups: dict[int, str] = {}
        self._keys: dict[tuple[str, str], dict[str, str]] = {}
        self._noted: dict[tuple[str, str], set[str]] = {}

    def reset(self, device: torch.device) -> None:
        """Resets all metrics and moves them to the device of the coming results."""
        self.intervals, self.groups = {}, {}
        for named in self.metrics.values():
            for metric in named.values():
                metric.to(device).reset()

    def update(self, results: Sequence[Mapping[str, Result]], truth: list[Truth]) -> None:
        """Adds the valid images of a batch; every rank calls it for every batch.

        Args:
            results: One dict per image, head name to result.
            truth: One per image, in the same order.
        """
        self.groups |= {one["image_id"]: group for one in truth if (group := group_of(one))}
        for head, named in self.metrics.items():
            of_head = [result[head] for result in results]
            for metric in named.values():
                metric.update(of_head, truth)

    def compute(self) -> dict[str, Tensor]:
        """Computes the values over all ranks, named `HEAD/VALUE`.

        If two metrics of a head share a name, the second one's becomes `HEAD/METRIC/VALUE`.

        Raises:
            ValueError: Two values have the same name, or one has the name of a loss.
        """
        computed: dict[str, Tensor] = {}
        self.groups = {i: g for part in dist.gathered(self.groups) for i, g in part.items()}
        for head, name, metric in self:
            values = _as_dict(name, metric.compute())
            keys = _keys(head, name, values, computed)
            self._keys[head, name] = dict(zip(values, keys, strict=True))
            pairs = zip(keys, values.values(), strict=True)
            computed |= {key: torch.as_tensor(value) for key, value in pairs}
        return computed

    def names(self) -> Names:
        """Returns the names that `compute` will use, before any image is seen.

        Raises:
            ValueError: Two values have the same name, or one has the name of a loss.
        """
        modes: dict[str, str | None] = {}
        unknown = []
        for head, name, metric in self:
            values = _computed_empty(name, metric)
            if values is None:
                unknown.append(head)
                continue
            keys = _keys(head, name, values, modes)
            modes |= dict.fromkeys(keys) | {key: _mode(metric) for key in keys[:1]}
        return Names(modes, unknown)

    def modes(self) -> dict[str, str]:
        """Better direction of the main value of each metric that declares one, by `HEAD/VALUE`."""
        mains = ((next(iter(keys.values()), ""), place) for place, keys in self._keys.items())
        declared = {key: _mode(self.metrics[head][name]) for key, (head, name) in mains if key}
        return {key: mode for key, mode in declared.items() if mode is not None}

    def __iter__(self) -> Iterator[tuple[str, str, Metric]]:
        """Iterates over head, name and metric."""
        for head, named in self.metrics.items():
            for name, metric in named.items():
                yield head, name, metric

    def draw_intervals(self, resamples: int) -> None:
        """Fills `intervals`, by `HEAD/VALUE`, from draws of the images; call `compute` before.

        Args:
            resamples: Number of draws, see `densekit.metrics.bootstrap.draws`.
        """
        for head, name, metric in self:
            if isinstance(metric, HasResamples) and len(ids := metric.image_ids()):
                groups = [self.groups.get(image, image) for image in ids.tolist()]
                found = intervals(metric.resampled(draws(groups, resamples)))
                keys = self._keys[head, name]
                self.intervals |= {keys[value]: ends for value, ends in found.items()}

    def measured(self, data: str) -> list[Measured]:
        """Returns the metrics that keep rows, as last computed.

        Args:
            data: Name of the data set.
        """
        return [
            Measured(data, head, name, metric, self._keys[head, name])
            for head, name, metric in self
            if isinstance(metric, RowMetric)
        ]

    def note_facts(self, info: dict[str, Any]) -> None:
        """Stores in a model's `info["heads"]` what predictions need from the last `compute`.

        What an earlier one has measured and this one has not is removed. Of two metrics of a head
        that measure the same, the first one decides.
        """
        for head, name, metric in reversed(list(self)):
            if isinstance(metric, HasFacts):
                facts, known = metric.facts(), info.setdefault("heads", {}).setdefault(head, {})
                for old in self._noted.get((head, name), set()) - facts.keys():
                    known.pop(old, None)
                known.update(facts)
                self._noted[head, name] = set(facts)

    def facts(self, head: str) -> dict[str, Any]:
        """Returns what the metrics of a head measured for predictions; call `compute` before."""
        named = reversed(list(self.metrics.get(head, {}).values()))
        parts = [metric.facts() for metric in named if isinstance(metric, HasFacts)]
        return {name: value for part in parts for name, value in part.items()}

    def cases(self) -> list[dict[str, Any]]:
        """Returns one row per image and head of metrics that keep them; call `compute` before."""
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for head, _, metric in self:
            for case in metric.cases() if isinstance(metric, HasCases) else []:
                rows.setdefault((head, case["image_id"]), {"head": head}).update(case)
        return list(rows.values())

    def case_values(self) -> CaseValues | None:
        """Returns the first value per image that a metric has; call `compute` before.

        It is the first column of numbers of the first metric that measures every image.
        """
        for _, _, metric in self:
            rows = metric.cases() if isinstance(metric, HasCases) else []
            columns = [k for k, v in rows[0].items() if isinstance(v, float)] if rows else []
            if name := next((key for key in columns if key != "image_id"), None):
                values, confidence = (
                    {row["image_id"]: row[key] for row in rows if key in row}
                    for key in (name, "confidence")
                )
                higher = metric.higher_is_better is not False
                return CaseValues(name, higher, values, confidence)
        return None

    def confusions(self) -> Confusions:
        """Returns class names and confusion matrix of heads with one; call `compute` before."""
        return {
            head: _with_background(metric.names, metric.confusion())
            for head, _, metric in self
            if isinstance(metric, HasConfusion)
        }


def _with_background(
    names: list[str], counts: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    return [*names, "background"][: len(counts)], counts


def build_metrics(model: DenseModel, heads: Iterable[str] | None, recipes: Recipes) -> MetricSet:
    """Builds fresh metrics for the heads that a data set evaluates.

    Args:
        model: Its heads make their default metrics; recipes receive `info["heads"][HEAD]`.
        heads: Names of the heads that the data set has ground truth for; None for all. What is
            combined of them has ground truth too.
        recipes: Replace the default metrics of the heads and combinations they name.

    Raises:
        ValueError: A metric cannot be built; the message begins with its key.
    """
    built: dict[str, dict[str, Metric]] = {}
    for name in measured(model, heads):
        info = model.described.get(name, {})
        if name in recipes:
            built[name] = {
                key: _named(f"metrics.{name}.{key}", partial(build_metric, recipe, info))
                for key, recipe in recipes[name].items()
            }
        else:
            make = partial(part_of(model, name).make_metrics, info)
            built[name] = _named(f"heads.{name}.make_metrics", make)
    return MetricSet(built)


def measured(model: DenseModel, heads: Iterable[str] | None) -> list[str]:
    """What has metrics on a data set: combinations whose parts it has all, then its heads.

    Args:
        model: Of these heads.
        heads: Names of the heads that the data set has ground truth for; None for all.
    """
    there = list(model.heads if heads is None else heads)
    combined = [name for name, one in model.combined.items() if set(one.parts) <= set(there)]
    return [*combined, *there]


def part_of(model: DenseModel, name: str) -> Head | Combination:
    """The head or the combination of a name."""
    return model.combined[name] if name in model.combined else model.heads[name]


def check_heads(recipes: Recipes, heads: Iterable[str]) -> None:
    """Refuses metrics of an unknown head, and a head named like the total loss.

    Args:
        recipes: Names of heads and combinations are its keys.
        heads: Names of both.

    Raises:
        ValueError: Names the nearest head.
    """
    known = list(heads)
    if LOSS in known:
        raise ValueError(f"heads: expected another name than that of the total loss, got {LOSS!r}")
    for head in recipes:
        if head not in known:
            raise ValueError(unknown("metrics", head, known))


def group_of(truth: Truth) -> str | None:
    """What an image is drawn with: its patient or other group, its subject; None if by itself."""
    identity = truth.get("identity")
    return truth.get("group") or (None if identity is None else f"identity {identity}")


def _named(key: str, make: Callable[[], Made]) -> Made:
    """Calls `make`; turns any error, of a plug-in too, into a ValueError that names the key."""
    try:
        return make()
    except Exception as error:
        raise ValueError(f"{key}: {type(error).__name__}: {error}") from error


def build_metric(recipe: Recipe, info: Mapping[str, Any]) -> Metric:
    """Builds a fresh metric from a recipe, with the entries of `info` that it accepts."""
    if isinstance(recipe, Metric):
        return recipe.clone()  # one per stage and data set
    accepted = inspect.signature(recipe).parameters
    return recipe(**{name: value for name, value in info.items() if name in accepted})


def _keys(head: str, name: str, values: Mapping[str, Any], taken: Container[str]) -> list[str]:
    """Names the values of a metric without clashing with the names in `taken`."""
    keys: list[str] = []
    for value in values:
        key = f"{head}/{value}"
        key = f"{head}/{name}/{value}" if key in taken else key
        if key in taken or key in keys:
            raise ValueError(
                f"metrics.{head}.{name}: expected unique names, got {key!r} twice; rename the"
                " metric or its value"
            )
        if key.split("/")[1] == LOSS:
            raise ValueError(
                f"metrics.{head}.{name}: expected a name outside {head}/{LOSS}, under which the"
                f" terms of the loss are logged, got {key!r}"
            )
        keys.append(key)
    return keys


def _computed_empty(name: str, metric: Metric) -> Mapping[str, Any] | None:
    """Computes a fresh metric without any image; None if it cannot."""
    with warnings.catch_warnings(), _silent(logging.getLogger("densekit.metrics")):
        warnings.simplefilter("ignore")
        try:
            return _as_dict(name, metric.clone().compute())
        except Exception:  # a metric need not work without images
            return None


@contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    """Silences a logger, whose warnings that nothing was measured are expected here."""
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
