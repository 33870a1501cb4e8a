"""`densekit plan`: looks at volumes with masks and proposes a configuration; it applies nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from densekit.app.compose import compose
from densekit.app.errors import UsageError
from densekit.app.overrides import split_options
from densekit.app.plan_report import report
from densekit.app.planning import WIDTH, Memory, Network, Plan, propose
from densekit.app.prepare import describe_data, resolve
from densekit.app.report import print_lines
from densekit.app.targets import arguments
from densekit.build import instantiate
from densekit.data.source import SPLITS

if TYPE_CHECKING:
    from densekit.data.fingerprint import Fingerprint
    from densekit.data.protocols import Dataset

OPTIONS: dict[str, Any] = {"memory": 8.0, "cases": 40, "output": None}
BASE = ("backbone=resnet18", "neck=none", "head=unet")
"""The network a plan is made for, unless the command line chooses another."""
PREPARING = ("spacing", "intensity", "cache")
"""Settings that change what is read: a plan looks at what is stored."""
GROUPS = {
    "backbone": "resnet18",
    "neck": "none",
    "head": "unet",
    "metrics": "medical",
    "optimizer": "adamw",
    "schedule": "onecycle",
}
LOSSES = {"ce": "CrossEntropy", "dice": "Dice"}
HEADER = """\
# @package _global_
# Proposed by `densekit plan data={data}` for {memory:g} GiB of memory; edit it, save it as
# conf/experiment/{data}_planned.yaml and run: densekit train experiment={data}_planned
"""


def main(words: Sequence[str]) -> int:
    """Runs the command."""
    options, rest = split_options(words, OPTIONS)
    file = None if options["output"] is None else Path(options["output"]).expanduser()
    if file is not None and file.exists():
        raise UsageError(f"densekit plan: output={file} is there already; it is not overwritten")
    cfg = compose([*_unless_chosen(rest), *rest]).cfg
    sources = describe_data(cfg)
    name, source = next(iter(sources.items()))
    _check(name, source.describe())
    job = resolve(cfg)
    data, budget = job["data"][name], float(options["memory"])
    stored = _as_stored(data.get("train"), name, job["trust"])
    found = _look(stored, int(options["cases"]))
    plan = propose(found, len(stored), budget, _memory(job, sources))
    report(found, plan, len(stored))
    header = HEADER.format(data=name, memory=budget)
    text = header + _yaml(name, plan, data, background=found.background)
    if file is None:
        print_lines("", text.rstrip())
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print_lines(f"proposed: {file}")
    return 0


def _unless_chosen(words: Sequence[str]) -> list[str]:
    chosen = {word.partition("=")[0] for word in words}
    if "data" not in chosen and "experiment" not in chosen:
        raise UsageError("densekit plan: data=NAME is missing, a file of the group data")
    return [word for word in BASE if word.partition("=")[0] not in chosen]


def _as_stored(node: Mapping[str, Any] | None, name: str, trust: Sequence[str]) -> Dataset:
    """The training split without what would scale, resample or cache its images."""
    if node is None:
        raise UsageError(f"densekit plan: data.{name} has no training split to look at")
    key = f"data.{name}.train"
    accepted = arguments(node, key, trust) or set()
    dataset: Dataset = instantiate({**node, **{k: None for k in PREPARING if k in accepted}}, key)
    return dataset


def _check(name: str, described: Mapping[str, Any]) -> None:
    if described.get("spatial_dims", 2) != 3:
        raise UsageError(
            f"densekit plan: data.{name} has {described.get('spatial_dims', 2)} spatial dimensions,"
            " accepted are volumes (3), for example data=hippocampus"
        )


def _look(dataset: Dataset, limit: int) -> Fingerprint:
    from rich.progress import track

    from densekit.data.fingerprint import fingerprint, spread

    return fingerprint(dataset, track(spread(len(dataset), limit), "looking at volumes"))


def _memory(job: Mapping[str, Any], sources: Mapping[str, Any]) -> Memory:
    """Estimates the memory of the configured model with the settings of a plan."""
    from densekit.app.data_info import model_info
    from densekit.app.footprint import training_memory
    from densekit.build import build_model

    info = model_info(sources, job["heads"], None)
    channels = next(iter(sources.values())).describe()["channels"]

    @cache
    def parts(network: Network, patch: tuple[int, ...]) -> tuple[float, float]:
        settings = _backbone(network) | {"weights": None}
        planned = {**job, "backbone": {**job["backbone"], **settings}}
        return training_memory(lambda: build_model(planned, info), channels, patch)

    def memory(network: Network, patch: tuple[int, ...], batch: int) -> float:
        once, each = parts(network, patch)
        return once + batch * each

    return memory


def _backbone(network: Network) -> dict[str, Any]:
    settings: dict[str, Any] = {"stem": network.stem, "width": WIDTH}
    return settings | ({"hold": list(network.hold)} if any(network.hold) else {})


def _yaml(name: str, plan: Plan, data: Mapping[str, Any], *, background: bool) -> str:
    splits = {split: _frame(plan) for split in SPLITS if data.get(split) is not None}
    patch = {"_target_": "densekit.data.Patch", "size": list(plan.patch), "balanced": 0.33}
    patch |= {"skip_background": True} if background else {}
    chain = {"_target_": "densekit.data.Chain", "steps": {"patch": patch}}
    losses = {loss: {"_target_": f"densekit.losses.{target}"} for loss, target in LOSSES.items()}
    content = {
        "backbone": _backbone(plan.network),
        "heads": {"segmentation": {"losses": losses}},
        "data": {name: {**splits, "train_transform": chain, "batch_size": plan.batch_size}},
        "inferer": {"_target_": "densekit.inference.SlidingWindow", "window": list(plan.patch)},
        "callbacks": {"checkpoint": {"monitor": "val/segmentation/dice", "mode": "max"}},
    }
    defaults = {"defaults": [{f"override /{k}": v} for k, v in {"data": name, **GROUPS}.items()]}
    return f"{_dump(defaults, flow=False)}\n{_dump(content, flow=None)}"


def _frame(plan: Plan) -> dict[str, Any]:
    return {"spacing": list(plan.spacing), "intensity": dict(plan.intensity)}


def _dump(content: Mapping[str, Any], flow: bool | None) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=flow, width=100)
    return text
