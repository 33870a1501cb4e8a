"""`densekit plan`: looks at volumes with masks and proposes a configuration; it applies nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, open_dict

from densekit.app.compose import compose
from densekit.app.errors import UsageError
from densekit.app.overrides import split_options
from densekit.app.planning import Memory, Network, Plan, propose
from densekit.app.prepare import describe_data, resolve
from densekit.app.report import print_lines
from densekit.app.targets import arguments
from densekit.data.source import SPLITS

if TYPE_CHECKING:
    from densekit.data.fingerprint import Fingerprint

OPTIONS: dict[str, Any] = {"memory": 8.0, "cases": 40, "output": None}
BASE = ("backbone=resnet18", "neck=none", "head=unet")
"""The network a plan is made for, unless the command line chooses another."""
STORED = {"spacing": None, "intensity": None, "cache": None}
"""Settings that change what is read: a plan looks at what is stored."""
HEADER = """\
# @package _global_
# Proposed by `densekit plan data={data}` for {memory:g} GiB of memory; edit it, save it as
# conf/experiment/{data}_planned.yaml and run: densekit train experiment={data}_planned
"""


def main(arguments_: Sequence[str]) -> int:
    """Runs the command."""
    options, rest = split_options(arguments_, OPTIONS)
    cfg = compose([*_unless_chosen(rest), *rest]).cfg
    _as_stored(cfg)
    sources = describe_data(cfg)
    name, source = next(iter(sources.items()))
    _check(name, source.describe())
    found = _look(source.train, int(options["cases"]))
    plan = propose(found, len(source.train), float(options["memory"]), _memory(cfg, sources))
    _report(found, plan, len(source.train))
    text = HEADER.format(data=name, memory=float(options["memory"])) + _yaml(name, plan, found, cfg)
    if options["output"] is None:
        print_lines("", text.rstrip())
    else:
        _write(text, Path(options["output"]).expanduser())
    return 0


def _unless_chosen(words: Sequence[str]) -> list[str]:
    chosen = {word.partition("=")[0] for word in words}
    if "data" not in chosen and "experiment" not in chosen:
        raise UsageError("densekit plan: data=NAME is missing, a file of the group data")
    return [word for word in BASE if word.partition("=")[0] not in chosen]


def _as_stored(cfg: DictConfig) -> None:
    """Sets what would scale, resample or cache the images to nothing, where it can be set."""
    with open_dict(cfg):
        for name in cfg.data:
            for split in SPLITS:
                node = cfg.data[name].get(split)
                if node is None:
                    continue
                accepted = arguments(node["_target_"], f"data.{name}.{split}", list(cfg.trust))
                node.update({k: v for k, v in STORED.items() if accepted and k in accepted})


def _check(name: str, described: Mapping[str, Any]) -> None:
    if described.get("spatial_dims", 2) != 3:
        raise UsageError(
            f"densekit plan: data.{name} has {described.get('spatial_dims', 2)} spatial dimensions,"
            " accepted are volumes (3), for example data=hippocampus"
        )


def _look(dataset: Any, limit: int) -> Fingerprint:
    from rich.progress import track

    from densekit.data.fingerprint import fingerprint, spread

    if dataset is None:
        raise UsageError("densekit plan: the data has no training split to look at")
    return fingerprint(dataset, track(spread(len(dataset), limit), "looking at volumes"))


def _memory(cfg: DictConfig, sources: Mapping[str, Any]) -> Memory:
    """Estimates the memory of the configured model with the settings of a plan."""
    from densekit.app.footprint import training_memory
    from densekit.app.info import model_info
    from densekit.build import build_model

    job = resolve(cfg)
    info = model_info(sources, job["heads"], None)
    channels = next(iter(sources.values())).describe()["channels"]

    @cache
    def parts(network: Network, patch: tuple[int, ...]) -> tuple[float, float]:
        settings = {"stem": network.stem, "hold": list(network.hold), "weights": None}
        planned = {**job, "backbone": {**job["backbone"], **settings}}
        return training_memory(lambda: build_model(planned, info), channels, patch)

    def memory(network: Network, patch: tuple[int, ...], batch: int) -> float:
        once, each = parts(network, patch)
        return once + batch * each

    return memory


def _report(found: Fingerprint, plan: Plan, cases: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{cases} training volumes, {len(found.shapes)} looked at")
    for column in ("along z, y, x", "smallest", "median", "largest", "planned"):
        table.add_column(column, justify="left" if column.startswith("along") else "right")
    for title, rows, planned in (
        ("voxels", found.shapes, plan.shape),
        ("spacing, mm", found.spacings, plan.spacing),
    ):
        figures = [_joined(part(rows)) for part in (_least, _middle, _most)]
        table.add_row(title, *figures, _joined(planned))
    table.add_row("patch, voxels", "", "", "", _joined(plan.patch))
    classes = Table(title="classes")
    for column in ("class", "share of voxels", "cases with it"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for name, share, present in zip(found.names, found.shares, found.present, strict=True):
        classes.add_row(name, f"{share:.3%}", f"{present} of {len(found.shapes)}")
    values = Table(title="stored values in the foreground")
    for column in ("channel", "0.5 %", "median", "99.5 %"):
        values.add_column(column, justify="right")
    for channel, row in enumerate(found.percentiles):
        values.add_row(str(channel), *(f"{value:.4g}" for value in row))
    for shown in (table, classes, values):
        Console().print(shown)
    print_lines(f"a step of {plan.batch_size} patches takes about {plan.memory:.1f} GiB in float32")


def _least(rows: Any) -> Any:
    return rows.min(axis=0)


def _middle(rows: Any) -> Any:
    import numpy as np

    return np.median(rows, axis=0)


def _most(rows: Any) -> Any:
    return rows.max(axis=0)


def _joined(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _yaml(name: str, plan: Plan, found: Fingerprint, cfg: DictConfig) -> str:
    frame = {"spacing": list(plan.spacing), "intensity": plan.intensity}
    splits = {split: dict(frame) for split in SPLITS if cfg.data[name].get(split) is not None}
    patch = {"_target_": "densekit.data.Patch", "size": list(plan.patch), "balanced": 0.33}
    chain = {"_target_": "densekit.data.Chain", "steps": {"patch": patch}}
    backbone: dict[str, Any] = {"stem": plan.network.stem}
    if any(plan.network.hold):
        backbone["hold"] = list(plan.network.hold)
    groups = {"data": name, "backbone": "resnet18", "neck": "none", "head": "unet"}
    groups |= {"metrics": "medical", "optimizer": "adamw", "schedule": "onecycle"}
    content = {
        "defaults": [{f"override /{group}": option} for group, option in groups.items()],
        "backbone": backbone,
        "data": {name: {**splits, "batch_size": plan.batch_size, "train_transform": chain}},
        "inferer": {"_target_": "densekit.inference.SlidingWindow", "window": list(plan.patch)},
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def _write(text: str, file: Path) -> None:
    if file.exists():
        raise UsageError(f"densekit plan: output={file} is there already; it is not overwritten")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print_lines(f"proposed: {file}")
