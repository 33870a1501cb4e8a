"""The proposal of `densekit plan` for boxes: inspects the objects and writes an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from densekit._files import write_text
from densekit.app.config.compose import compose
from densekit.app.config.data_info import model_info
from densekit.app.config.overrides import Overrides, parse
from densekit.app.config.resolve import describe_data, resolve
from densekit.app.errors import UsageError
from densekit.app.planning.boxes.anchors import planned_anchors
from densekit.app.planning.boxes.reach import reached, scales, without_claims
from densekit.app.planning.boxes.recipe import GROUPS, BoxRecipe
from densekit.app.planning.boxes.report import BY_IOU, report_data, report_plan, report_reach
from densekit.app.planning.boxes.rules import Memory, propose, resize_rule, rule_of
from densekit.app.planning.footprint import detector_memory
from densekit.app.planning.recipe import name_of, planned_file, train_command
from densekit.app.terminal import print_lines
from densekit.build import build_model
from densekit.data.box_fingerprint import BoxFingerprint, box_fingerprint
from densekit.data.fingerprint import spread
from densekit.data.reading.progress import tracked
from densekit.model import DenseModel
from densekit.ops.resize import ResizeRule

DATA_KEYS = ("data", "vars", "resize", "experiment")
"""Overrides that select the data."""


def write_box_proposal(given: Overrides, memory: float, cases: int, file: Path | None) -> None:
    """Prints statistics of the objects and writes the experiment proposed for them.

    Args:
        given: Overrides of the configuration that choose the data set.
        memory: GiB that a training step may take in float32.
        cases: Number of images to inspect.
        file: Where the experiment is written; printed by default.

    Raises:
        UsageError: There is not one data set with training images.
        ValueError: It has no boxes, or no network fits.
    """
    cfg = _composed(given)
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    sources = describe_data(cfg)
    if len(sources) > 1:
        raise UsageError(f"data: expected one data set to plan for, got {', '.join(sources)}")
    (name, source), *_ = sources.items()
    if source.train is None:
        raise UsageError(f"data.{name}.train: expected a training split, got none")
    job = resolve(cfg, sources)
    chosen = spread(len(source.train), cases)
    found = box_fingerprint(source.train, tracked(chosen, "inspecting boxes"))
    rule = _rule(job["resize"], found, given)
    parts = _Parts(job, model_info(sources, job["heads"], None))
    plan = propose(found, len(source.train), rule, memory, parts.memory(source))
    report_data(found, len(source.train), plan.resize)
    settings = parts.report(found, plan.resize)
    report_plan(found, plan)
    recipe = BoxRecipe(name, parts.head, source.val is not None, given, job["trust"])
    text = recipe.text(file, memory, plan, settings, written)
    command = f"train:    {train_command(name, given, file)}"
    if file is None:
        print_lines("", text.rstrip())
    else:
        write_text(file, text)
        moved = [] if name_of(file) else [f"save as:  {planned_file(name)}"]
        print_lines(f"proposed: {file}", *moved, command)


def _composed(given: Overrides) -> DictConfig:
    """Composes the configuration; of an experiment only the data are used."""
    chosen = given.keys
    base = parse([f"{group}={name}" for group, name in GROUPS.items() if group not in chosen])
    cfg = compose(base + given).cfg
    if "experiment" not in chosen:
        return cfg
    others = given.where(lambda word: word.key.partition(".")[0] not in DATA_KEYS)
    planned = compose(base + others).cfg
    planned.data, planned.vars, planned.resize = cfg.data, cfg.vars, cfg.resize
    return planned


def _rule(own: ResizeRule | None, found: BoxFingerprint, given: Overrides) -> ResizeRule | None:
    """The resize rule of the command line, else that of the objects; a rule stays a rule."""
    if any(key.partition(".")[0] == "resize" for key in given.keys):
        return own
    planned = resize_rule(found)
    return planned if planned or own is None else rule_of(float(np.median(found.sizes.min(1))))


class _Parts:
    """The configured model, and what it becomes with other arguments of its head.

    Args:
        job: Resolved configuration.
        info: See `DenseModel`.
    """

    def __init__(self, job: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        if len(job["heads"]) != 1:
            raise UsageError(f"heads: expected one to plan for, got {', '.join(job['heads'])}")
        (self.head,) = job["heads"]
        self._job = {**job, "backbone": {**job["backbone"], "weights": None}}
        self._info = info

    def model(self, settings: Mapping[str, Any]) -> DenseModel:
        """The model with further arguments of its head, without memory for its weights."""
        heads = {self.head: _merged(self._job["heads"][self.head], settings)}
        with torch.device("meta"):
            return build_model({**self._job, "heads": heads}, self._info)

    def memory(self, source: Any) -> Memory:
        """How much memory a training step of the configured model takes."""
        channels = source.describe()["channels"]

        @cache
        def parts(height: int, width: int) -> tuple[float, float]:
            make = lambda: build_model(self._job, self._info)  # noqa: E731
            return detector_memory(make, channels, (height, width))

        def memory(height: int, width: int, batch: int) -> float:
            once, each = parts(height, width)
            return once + batch * each

        return memory

    def report(self, found: BoxFingerprint, rule: ResizeRule | None) -> dict[str, Any]:
        """Proposes arguments of the head and prints whom they reach; {} for a head without."""
        before = self.model({})
        sides = found.sides(scales(found, rule))
        head: Any = before.heads[self.head]
        settings: dict[str, Any] = planned_anchors(head, _pyramid(before), sides) or {}
        tables: dict[str, NDArray[np.bool_]] = {}
        choices: dict[str, dict[str, Any]] = {"default": {}, "planned": settings}
        for what, own in choices.items():
            tables |= self._reach(what, own, found, rule)
        if tables:
            report_reach(np.sqrt(sides.prod(1)), tables, list(tables))
        return settings

    def _reach(
        self, what: str, settings: Mapping[str, Any], found: BoxFingerprint, rule: ResizeRule | None
    ) -> dict[str, NDArray[np.bool_]]:
        """Columns of the table: the head's own matching, and without every object's best anchor."""
        model = self.model(settings)
        head: Any = model.heads[self.head]
        result = {}
        own = reached(head, found, rule, model.size_divisor)
        if own is not None:
            result[what] = own
        if own is not None and without_claims(head):
            strict = reached(head, found, rule, model.size_divisor)
            assert strict is not None
            result[what + BY_IOU] = strict
        return result


def _pyramid(model: DenseModel) -> dict[str, int]:
    """Level name to stride, of every level that the neck could add, finest first."""
    specs = {} if model.neck is None else model.neck.specs
    return {name: spec.stride[0] for name, spec in specs.items()}


def _merged(node: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A node with further arguments, merged as Hydra does."""
    result = dict(node)
    for key, value in settings.items():
        own: Any = result.get(key)
        both = isinstance(own, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(own, value) if both else value
    return result
