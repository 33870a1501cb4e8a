"""The proposal of `densekit plan`: inspects the volumes of a data set and writes an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from densekit._files import write_text
from densekit.app.config.compose import compose
from densekit.app.config.overrides import Overrides, parse
from densekit.app.config.resolve import describe_data, resolve
from densekit.app.config.targets import arguments
from densekit.app.errors import UsageError
from densekit.app.planning.recipe import (
    GROUPS,
    Recipe,
    backbone_settings,
    framed,
    name_of,
    planned_file,
    readers_of_volumes,
    set_accepted,
    train_command,
)
from densekit.app.planning.report import report
from densekit.app.planning.rules import Memory, Network, propose
from densekit.app.terminal import print_lines
from densekit.build import instantiate
from densekit.data.splits import SPLITS

if TYPE_CHECKING:
    from densekit.data.fingerprint import Fingerprint
    from densekit.data.protocols import Dataset

DATA_KEYS = ("data", "vars", "experiment")
"""Overrides that select the data."""
AS_STORED = {"spacing": None, "intensity": None, "cache": None}
"""Arguments of data sets while the plan inspects the stored volumes."""


def write_proposal(given: Overrides, memory: float, cases: int, file: Path | None) -> None:
    """Prints statistics of the volumes and writes the experiment proposed for them.

    Args:
        given: Overrides of the configuration that choose the data set.
        memory: GiB that a training step may take in float32.
        cases: Number of volumes to inspect.
        file: Where the experiment is written; printed by default.

    Raises:
        UsageError: The data set is unknown or has no training volumes, or no network fits.
    """
    cfg = _composed(given)
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    with open_dict(cfg):  # the intensity, which is planned, may be missing
        cfg.update(framed(written, {"intensity": {"kind": "zscore"}}, list(cfg.trust)))
    sources = describe_data(cfg)
    name, source = _only(sources)
    _check(name, source.describe())
    job = resolve(cfg, sources)
    stored = _as_stored(job["data"][name].get("train"), name, job["trust"])
    found = _look(stored, cases)
    plan = propose(found, len(stored), memory, _memory(job, sources, given.keys))
    report(found, plan, len(stored))
    splits = [split for split in SPLITS if job["data"][name].get(split) is not None]
    recipe = Recipe(name, next(iter(job["heads"])), splits, given, job["trust"])
    text = recipe.text(file, memory, plan, found, written)
    if file is None:
        print_lines("", text.rstrip())
    else:
        write_text(file, text)
        moved = [] if name_of(file) else [f"save as:  {planned_file(name)}"]
        print_lines(f"proposed: {file}", *moved, f"train:    {train_command(name, given, file)}")


def _composed(overrides: Overrides) -> DictConfig:
    """Composes the configuration; of an experiment only the data are used."""
    base = _unless_chosen(overrides)
    cfg = compose(base + overrides).cfg
    if "experiment" not in overrides.keys:
        return cfg
    others = overrides.where(lambda word: word.key.partition(".")[0] not in DATA_KEYS)
    planned = compose(base + others).cfg
    with open_dict(planned):
        planned.data, planned.vars = cfg.data, cfg.vars
    return planned


def _unless_chosen(overrides: Overrides) -> Overrides:
    chosen = overrides.keys
    return parse([f"{group}={name}" for group, name in GROUPS.items() if group not in chosen])


def _only(sources: Mapping[str, Any]) -> tuple[str, Any]:
    if len(sources) > 1:
        raise UsageError(f"data: expected one data set to plan for, got {', '.join(sources)}")
    return next(iter(sources.items()))


def _as_stored(node: Mapping[str, Any] | None, name: str, trust: Sequence[str]) -> Dataset:
    """Builds the training split without scaling, resampling and caching."""
    if node is None:
        raise UsageError(f"data.{name}.train: expected a training split, got none")
    key = f"data.{name}.train"
    plain = deepcopy(dict(node))
    readers = readers_of_volumes(plain, key, trust)
    if not readers:
        raise UsageError(
            f"{key}: expected a data set with the arguments spacing and intensity, as"
            f" densekit.data.MedicalVolumes has them, got {node.get('_target_')}"
        )
    for reader in readers:
        set_accepted(reader, AS_STORED, key, trust)
    dataset: Dataset = instantiate(plain, key)
    return dataset


def _check(name: str, described: Mapping[str, Any]) -> None:
    if described.get("spatial_dims", 2) != 3:
        raise UsageError(
            f"data.{name}: expected volumes (3 spatial dimensions), such as data=hippocampus,"
            f" got {described.get('spatial_dims', 2)} spatial dimensions"
        )


def _look(dataset: Dataset, limit: int) -> Fingerprint:
    from densekit.data.fingerprint import fingerprint, spread
    from densekit.data.reading.progress import tracked

    return fingerprint(dataset, tracked(spread(len(dataset), limit), "inspecting volumes"))


def _memory(job: Mapping[str, Any], sources: Mapping[str, Any], given: Collection[str]) -> Memory:
    """Estimates the memory of the configured model with the settings of a plan."""
    from densekit.app.config.data_info import model_info
    from densekit.app.planning.footprint import training_memory
    from densekit.build import build_model

    key, trust = "backbone", job["trust"]
    accepted = arguments(job[key], key, trust) or set()
    if missing := {"stem", "width", "skip_downsampling"} - accepted:
        raise UsageError(
            f"{key}: expected a network with the arguments {', '.join(sorted(missing))}, such as"
            f" backbone=resnet18, got {job[key]['_target_']}"
        )
    info = model_info(sources, job["heads"], None)
    channels = next(iter(sources.values())).describe()["channels"]

    @cache
    def parts(network: Network, patch: tuple[int, ...]) -> tuple[float, float]:
        settings = backbone_settings(network, given) | {"weights": None}
        planned = {**job, "backbone": {**job["backbone"], **settings}}
        return training_memory(lambda: build_model(planned, info), channels, patch)

    def memory(network: Network, patch: tuple[int, ...], batch: int) -> float:
        once, each = parts(network, patch)
        return once + batch * each

    return memory
