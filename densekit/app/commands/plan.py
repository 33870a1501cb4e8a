"""`densekit plan`: looks at volumes with masks and proposes a configuration; it applies nothing."""

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
from densekit.app.options import Command, Option, number, parse_command, text, whole
from densekit.app.planning.recipe import (
    GROUPS,
    Recipe,
    backbone_settings,
    framed,
    name_of,
    readers_of_volumes,
    set_accepted,
)
from densekit.app.planning.report import report
from densekit.app.planning.rules import Memory, Network, propose
from densekit.app.report import print_lines
from densekit.build import instantiate
from densekit.data.splits import SPLITS

if TYPE_CHECKING:
    from densekit.data.fingerprint import Fingerprint
    from densekit.data.protocols import Dataset

COMMAND = Command(
    name="plan",
    usage="data=NAME [key=value ...]",
    about="""
Reads the training volumes of a data set as they are stored, prints their sizes, spacings,
intensities and class frequencies, and proposes an experiment file: spacing, intensity of each
channel, patch, batch, network, augmentation, epochs and sliding window. The file begins with the
command that trains it. Edit it as needed; nothing is applied.
""",
    examples=(
        "plan data=hippocampus paths.data=FOLDER",
        "plan data=mine paths.data=FOLDER memory=24 output=conf/experiment/mine_planned.yaml",
    ),
    options=(
        Option(
            "memory",
            number(at_least=0),
            8.0,
            "memory in GiB that a training step may take in float32",
        ),
        Option("cases", whole(1), 40, "number of volumes to read, spread evenly over the data set"),
        Option(
            "output", text("FILE"), None, "new file to write the proposal to (default: print it)"
        ),
    ),
    settings=(
        ("data=NAME", "a file of the group data, listed below"),
        ("key=value", "any other key of the configuration, as for densekit train"),
    ),
    overrides=True,
    groups=lambda: ["data"],
)
DATA_KEYS = ("data", "vars", "experiment")
"""Words that say where the data are."""
AS_STORED = {"spacing": None, "intensity": None, "cache": None}
"""Arguments of data sets while the plan looks at what is stored."""


def main(words: Sequence[str]) -> int:
    """Runs the command."""
    options, rest = parse_command(COMMAND, words)
    file = None if options["output"] is None else Path(options["output"]).expanduser()
    if file is not None and file.exists():
        raise UsageError(f"output: expected a new file, got {file}, which exists")
    budget = options["memory"]
    given = parse(rest)
    cfg = _composed(given)
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    with open_dict(cfg):  # a scale, which is to be planned, may be missing yet
        cfg.update(framed(written, {"intensity": {"kind": "zscore"}}, list(cfg.trust)))
    sources = describe_data(cfg)
    name, source = _only(sources)
    _check(name, source.describe())
    job = resolve(cfg)
    stored = _as_stored(job["data"][name].get("train"), name, job["trust"])
    found = _look(stored, options["cases"])
    plan = propose(found, len(stored), budget, _memory(job, sources, given.keys))
    report(found, plan, len(stored))
    splits = [split for split in SPLITS if job["data"][name].get(split) is not None]
    recipe = Recipe(name, next(iter(job["heads"])), splits, given, job["trust"])
    text = recipe.text(file, budget, plan, found, written)
    if file is None:
        print_lines("", text.rstrip())
    else:
        write_text(file, text)
        moved = [] if name_of(file) else [f"save as:  {recipe.place}"]
        print_lines(f"proposed: {file}", *moved, f"train:    {recipe.command(file)}")
    return 0


def _composed(overrides: Overrides) -> DictConfig:
    """The configuration; of an experiment the data alone, whose network is another one."""
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
    if "data" not in chosen and "experiment" not in chosen:
        raise UsageError("data: expected a data set, got nothing; densekit plan data=NAME")
    return parse([f"{group}={name}" for group, name in GROUPS.items() if group not in chosen])


def _only(sources: Mapping[str, Any]) -> tuple[str, Any]:
    if len(sources) > 1:
        raise UsageError(f"data: expected one data set to plan for, got {', '.join(sources)}")
    return next(iter(sources.items()))


def _as_stored(node: Mapping[str, Any] | None, name: str, trust: Sequence[str]) -> Dataset:
    """The training split without what would scale, resample or cache its images."""
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
    from rich.progress import track

    from densekit.data.fingerprint import fingerprint, spread

    return fingerprint(dataset, track(spread(len(dataset), limit), "looking at volumes"))


def _memory(job: Mapping[str, Any], sources: Mapping[str, Any], given: Collection[str]) -> Memory:
    """Estimates the memory of the configured model with the settings of a plan."""
    from densekit.app.config.data_info import model_info
    from densekit.app.planning.footprint import training_memory
    from densekit.build import build_model

    key, trust = "backbone", job["trust"]
    accepted = arguments(job[key], key, trust) or set()
    if missing := {"stem", "width", "skip_downsampling"} - accepted:
        raise UsageError(
            f"{key}: expected a network whose {', '.join(sorted(missing))} can be planned, as"
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
