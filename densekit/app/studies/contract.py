"""Checks the parts that a command line names against their contracts; prints a table of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

from densekit._console import plain, print_whole
from densekit.app.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.text import Text

    from densekit.testing.contract import Check, Outcome
    from densekit.testing.subject import Subject
    from densekit.types import Sample

KINDS = ("head", "backbone", "neck", "data", "metrics")
"""Groups whose options have a contract."""
CLASSES = 3
"""Number of classes of the synthetic images."""
SAMPLES = 4
LEAST_SIDE = 64
"""Smallest side of the image that a backbone is tested on."""


class Contract(NamedTuple):
    """The contract of a part.

    Attributes:
        key: The key of the part in the configuration, such as `heads.segmentation`.
        subject: The part together with what it is tested on.
        checks: The points of its contract.
    """

    key: str
    subject: Any
    checks: Sequence[Check[Any]]


@dataclass(frozen=True)
class SyntheticSource:
    """Stands in for a data set when the images are synthetic.

    Attributes:
        heads: Names of all heads.
        targets: Head name to "identity", for the heads of identities.
    """

    heads: Sequence[str]
    targets: Mapping[str, str]
    train = None

    def describe(self) -> dict[str, Any]:
        """The values of `${data_info:...}`."""
        from densekit.testing.samples import synthetic_info

        return synthetic_info(CLASSES) | {
            "channels": 3,
            "background": True,
            "multilabel": False,
            "targets": {"identity": {"num_identities": CLASSES}},
        }


def check_parts(arguments: Sequence[str], kinds: Sequence[str]) -> int:
    """Tests the parts that a command line names and prints one table per part.

    Args:
        arguments: Arguments of the command line.
        kinds: Those of `KINDS` that are tested if they are named.

    Returns:
        The exit code: 1 if a part breaks its contract.

    Raises:
        UsageError: No such part is named, or the configuration is wrong.
    """
    from rich.console import Console

    from densekit.testing.contract import report

    console, failed, contracts = Console(), False, list(_contracts(arguments, kinds))
    if not contracts:
        choices = ", ".join(f"{kind}=NAME" for kind in kinds)
        raise UsageError(
            f"densekit check: expected {choices}, got {' '.join(arguments) or 'nothing'}"
        )
    for contract in contracts:
        with console.status(contract.key):
            outcomes = report(contract.subject, contract.checks)
        _print(contract.key, outcomes)
        failed |= any(outcome.error for outcome in outcomes)
    return 1 if failed else 0


def _print(key: str, outcomes: Sequence[Outcome]) -> None:
    from rich.table import Table

    table = Table(title=plain(key), title_justify="left")
    for column in ("check", "", "the contract"):
        table.add_column(column)
    for outcome in outcomes:
        table.add_row(*_row(outcome))
    print_whole(table)


def _row(outcome: Outcome) -> tuple[Text, Text, Text]:
    if outcome.error is None:
        return plain(outcome.name), plain("ok", "green"), plain(outcome.asks, "dim")
    found = plain(f"{outcome.asks}\n").append(outcome.error, "red")
    return plain(outcome.name), plain("FAILED", "red"), found


def _named(arguments: Sequence[str]) -> set[str]:
    """The kinds that a command line names; an experiment names them all."""
    first = {re.split(r"[=.@]", word.lstrip("+~"))[0] for word in arguments}
    if "experiment" in first:
        return set(KINDS)
    return {kind for kind in KINDS if kind in first or (kind == "head" and "heads" in first)}


def _contracts(arguments: Sequence[str], kinds: Sequence[str]) -> Iterator[Contract]:
    from densekit.app.config.compose import compose
    from densekit.app.config.overrides import parse
    from densekit.app.config.resolve import resolve

    named = _named(arguments)
    wanted = named & set(kinds)
    if not wanted:
        return
    cfg = compose(parse(arguments)).cfg
    if "head" not in named:
        _only_names_of_heads(cfg, metrics="metrics" in named)
    sources = _sources(cfg, stored="data" in named)
    settings = resolve(cfg, sources)
    heads = _heads(settings, sources) if "head" in named else {}
    if "head" in wanted:
        yield from _head_contracts(heads)
    if wanted & {"backbone", "neck"}:
        yield from _model_contracts(settings, wanted)
    if "data" in wanted:
        yield from _data_contracts(sources)
    if "metrics" in wanted:
        yield from _metric_contracts(settings, heads)


def _only_names_of_heads(cfg: DictConfig, *, metrics: bool) -> None:
    """Drops heads that the command line does not name: data and metrics may be for others."""
    from omegaconf import open_dict

    names = list(cfg.metrics) if metrics else []
    for source in cfg.data.values():
        names += source.get("heads") or []
    with open_dict(cfg):
        cfg.heads = {name: {} for name in names or cfg.heads}


def _sources(cfg: DictConfig, *, stored: bool) -> dict[str, Any]:
    """The data sets of a configuration, or synthetic ones of the same names."""
    from densekit.app.config.resolve import describe_data

    if stored:
        return describe_data(cfg)
    kinds = {head: "identity" for head, node in cfg.heads.items() if "num_identities" in node}
    return {name: SyntheticSource(list(cfg.heads), kinds) for name in cfg.data}


def _heads(settings: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, Subject]:
    """The heads of a configuration by name, each with what it is tested on."""
    from densekit.app.config.data_info import model_info
    from densekit.build import instantiate
    from densekit.testing.samples import synthetic_samples
    from densekit.testing.subject import Subject

    info = model_info(sources, settings["heads"], settings["resize"])["heads"]
    subjects = {}
    for name, node in settings["heads"].items():
        trainer = next((one for one in sources.values() if name in one.heads), None)
        if trainer is None:
            raise UsageError(f"data.NAME.heads: expected a data set that trains {name}, got none")
        make = instantiate({**node, "_partial_": True}, f"heads.{name}")
        synthetic = isinstance(trainer, SyntheticSource)
        samples = synthetic_samples(CLASSES) if synthetic else _stored(trainer)
        specs = {} if synthetic else trainer.train.target_specs
        stride = settings["backbone"].get("output_stride", Subject.output_stride)
        subjects[name] = Subject(make, samples, specs, info[name], stride)
    return subjects


def _stored(source: Any) -> list[Sample]:
    """The first training samples of a data set as stored, before any resizing."""
    if source.train is None:
        raise UsageError("data: expected a data set with a training split, got none")
    return [source.train[index] for index in range(min(SAMPLES, len(source.train)))]


def _head_contracts(heads: Mapping[str, Subject]) -> Iterator[Contract]:
    from densekit.testing.head_checks import CHECKS

    for name, subject in heads.items():
        yield Contract(f"heads.{name}", subject, CHECKS)


def _model_contracts(settings: Mapping[str, Any], wanted: set[str]) -> Iterator[Contract]:
    """Backbone and neck with random weights, the neck on the levels of the backbone."""
    from densekit.build import instantiate
    from densekit.testing import backbone as of_backbone
    from densekit.testing import neck as of_neck
    from densekit.trust import without_weights

    backbone = instantiate(without_weights(settings["backbone"]), "backbone")
    if "backbone" in wanted:
        strides = [step for spec in backbone.features.values() for step in spec.stride]
        least = lcm(backbone.size_divisor, *strides)
        subject = of_backbone.BackboneSubject(backbone, least * -(-LEAST_SIDE // least))
        yield Contract("backbone", subject, (*of_backbone.CHECKS, *of_backbone.GRAPH_CHECKS))
    if "neck" in wanted and settings["neck"]:
        make = instantiate({**settings["neck"], "_partial_": True}, "neck")
        yield Contract("neck", of_neck.NeckSubject(make, backbone.features), of_neck.CHECKS)


def _data_contracts(sources: Mapping[str, Any]) -> Iterator[Contract]:
    """Every split of every data set, and the transforms that its samples pass."""
    from densekit.data.splits import SPLITS
    from densekit.testing import data as of_data
    from densekit.testing import transform as of_transform

    for name, source in sources.items():
        splits = {split: getattr(source, split) for split in SPLITS}
        for split, dataset in splits.items():
            if dataset is not None:
                yield Contract(f"data.{name}.{split}", of_data.DataSubject(dataset), of_data.CHECKS)
        for key, dataset in (
            ("train_transform", splits["train"]),
            ("eval_transform", splits["test"] if splits["val"] is None else splits["val"]),
        ):
            transform = getattr(source, key)
            if transform is not None and dataset is not None:
                subject = of_transform.transform_subject(transform, dataset)
                yield Contract(f"data.{name}.{key}", subject, of_transform.CHECKS)


def _metric_contracts(
    settings: Mapping[str, Any], heads: Mapping[str, Subject]
) -> Iterator[Contract]:
    """Configured metrics, on predictions of their head if it is named too, else synthetic ones."""
    from densekit.build import metric_recipes
    from densekit.testing.metric import CHECKS, MetricSubject
    from densekit.testing.samples import synthetic_info, synthetic_results
    from densekit.training.metric_set import build_metric

    for head, recipes in metric_recipes(settings).items():
        subject = heads.get(head)
        info = subject.info if subject else synthetic_info(CLASSES) | {"background": True}
        results, truth = subject.results() if subject else synthetic_results(CLASSES)
        names = list(info.get("names", ()))
        for name, recipe in recipes.items():
            tested = MetricSubject(build_metric(recipe, info), results, truth, names)
            yield Contract(f"metrics.{head}.{name}", tested, CHECKS)
