"""The experiment file that `densekit plan` writes for boxes, ready to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densekit.app.config.overrides import Overrides
from densekit.app.config.targets import arguments
from densekit.app.planning.boxes.rules import Plan
from densekit.app.planning.recipe import HEADER, dump, name_of, planned_file, train_command
from densekit.build import walk

GROUPS = {
    "backbone": "resnet18",
    "head": "faster_rcnn",
    "optimizer": "adamw",
    "schedule": "onecycle",
}
"""Default choices of a plan, unless the command line chooses others."""
LEARNING_RATE = 5e-4
RESIZED = {"min_sizes", "max_size"}
"""Arguments by which the step of `train_transform` that resizes is recognised."""


@dataclass(frozen=True)
class BoxRecipe:
    """The inputs of an experiment file besides the plan.

    Attributes:
        data: Name of the data set.
        head: Name of the head.
        has_val: Whether there are validation images.
        given: Overrides of the command line.
        trust: Packages whose classes may be built.
    """

    data: str
    head: str
    has_val: bool
    given: Overrides
    trust: Sequence[str]

    def text(
        self,
        file: Path | None,
        budget: float,
        plan: Plan,
        settings: Mapping[str, Any],
        cfg: Mapping[str, Any],
    ) -> str:
        """Returns the content of the file.

        Args:
            file: Where it is written, None if unknown.
            budget: Requested GiB.
            plan: The proposal.
            settings: Arguments of the head, see `planned_anchors`.
            cfg: The composed configuration, its interpolations not resolved.
        """
        save_as = "" if name_of(file) else f"# Save as: {planned_file(self.data)}\n"
        command = train_command(self.data, self.given, file)
        header = HEADER.format(memory=budget, command=command, save_as=save_as)
        chosen = dict(text.split("=", 1) for text in self.given.choices.texts)
        groups = {**GROUPS, **{k: v for k, v in chosen.items() if k not in ("data", "experiment")}}
        defaults: list[dict[str, Any]] = [{"override /data": None}]
        defaults += [{f"override /{group}": name} for group, name in groups.items()]
        content: dict[str, Any] = {
            "resize": plan.resize and dict(plan.resize),
            "heads": {self.head: dict(settings)},
            "optimizer": {"lr": LEARNING_RATE},
            "trainer": {"max_epochs": plan.epochs},
        }
        if self.has_val:
            content["trainer"]["check_val_every_n_epoch"] = plan.epochs_per_validation
        if not settings:
            del content["heads"]
        if "optimizer" in chosen:
            del content["optimizer"]
        content |= self._data(plan, cfg)
        return f"{header}{dump({'defaults': defaults}, flow=False)}\n{dump(content, flow=None)}"

    def _data(self, plan: Plan, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """The data set with the plan's batch and resizing, and the `vars` it may refer to."""
        parts = deepcopy({key: cfg[key] for key in ("vars", "data") if cfg[key]})
        source = parts["data"][self.data]
        source["batch_size"] = plan.batch_size
        source["group_by_aspect"] = plan.group_by_aspect
        source["train_transform"] = self._resizing(source.get("train_transform"), plan)
        return parts

    def _resizing(self, transform: Any, plan: Plan) -> Any:
        """The augmentation whose images end at the planned size; several scales stay several."""
        steps = [
            node
            for where, node in walk(transform, f"data.{self.data}.train_transform")
            if isinstance(node, dict)
            and "_target_" in node
            and (arguments(node, where, self.trust) or set()) >= RESIZED
        ]
        for step in steps:
            if plan.resize is not None:
                step["min_sizes"], step["max_size"] = _min_sizes(step, plan), "${resize.max_size}"
        if steps or plan.resize is None:
            return transform
        own = {"_target_": "densekit.data.Resize", "min_sizes": ["${resize.min_size}"]}
        own["max_size"] = "${resize.max_size}"
        before = {"augment": transform} if transform else {}
        return {"_target_": "densekit.data.Chain", "steps": {**before, "resize": own}}


def _min_sizes(step: Mapping[str, Any], plan: Plan) -> list[Any]:
    """The shorter sides of a step, scaled so that the largest is the planned one."""
    assert plan.resize is not None
    stored = [side for side in step["min_sizes"] if isinstance(side, int)]
    planned = plan.resize["min_size"]
    if not stored or max(stored) > 2 * planned:
        return ["${resize.min_size}"]
    return [side for side in stored if side < planned] + ["${resize.min_size}"]
