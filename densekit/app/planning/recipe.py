"""The experiment file that `densekit plan` writes, ready to train."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from densekit.app.config.overrides import Overrides
from densekit.app.config.targets import arguments
from densekit.app.planning.rules import WIDTH, Network, Plan
from densekit.app.terminal import quoted
from densekit.build import walk
from densekit.data.fingerprint import Fingerprint

GROUPS = {
    "backbone": "resnet18",
    "neck": "none",
    "head": "unet",
    "metrics": "medical",
    "optimizer": "adamw",
    "schedule": "onecycle",
}
"""Default choices of a plan, unless the command line chooses others."""
FOLDER = "conf/experiment"
FRAME = {"spacing", "intensity"}
"""Arguments by which data sets of volumes are recognised."""
LOSSES = {"ce": "PixelCrossEntropy", "dice": "Dice"}
LEARNING_RATE = 1e-3
SIDES = re.compile(r"left|right", re.IGNORECASE)
"""Names of structures that mirroring would confuse."""
HEADER = """\
# @package _global_
# Proposed by `densekit plan` for {memory:g} GiB of memory; edit it.
# Command: {command}
{save_as}"""


@dataclass(frozen=True)
class Recipe:
    """The inputs of an experiment file besides the plan.

    Attributes:
        data: Name of the data set.
        head: Name of the head.
        splits: The splits that the data set has.
        given: Overrides of the command line.
        trust: Packages whose classes may be built.
    """

    data: str
    head: str
    splits: Sequence[str]
    given: Overrides
    trust: Sequence[str]

    def text(
        self, file: Path | None, budget: float, plan: Plan, found: Fingerprint, cfg: dict[str, Any]
    ) -> str:
        """Returns the content of the file.

        Args:
            file: Where it is written, None if unknown.
            budget: Requested GiB.
            plan: The proposal.
            found: Of the data set.
            cfg: The composed configuration, its interpolations not resolved.
        """
        save_as = "" if name_of(file) else f"# Save as: {planned_file(self.data)}\n"
        command = train_command(self.data, self.given, file)
        header = HEADER.format(memory=budget, command=command, save_as=save_as)
        chosen = dict(text.split("=", 1) for text in self.given.choices.texts)
        groups = {group: chosen.get(group, name) for group, name in GROUPS.items()}
        overrides: list[dict[str, Any]] = [{"override /data": None}]
        overrides += [{f"override /{group}": name} for group, name in groups.items()]
        content = self._content(plan, found, cfg)
        if "optimizer" in chosen:
            del content["optimizer"]
        if "metrics" in chosen:
            del content["callbacks"]
        defaults = dump({"defaults": overrides}, flow=False)
        return f"{header}{defaults}\n{dump(content, flow=None)}"

    def _content(self, plan: Plan, found: Fingerprint, cfg: dict[str, Any]) -> dict[str, Any]:
        losses = {loss: {"_target_": f"densekit.losses.{name}"} for loss, name in LOSSES.items()}
        monitor = f"val/{self.head}/dice" if "val" in self.splits else None
        content: dict[str, Any] = {
            "backbone": backbone_settings(plan.network, self.given.keys),
            "heads": {self.head: {"losses": losses}},
            "optimizer": {"lr": LEARNING_RATE},
            "trainer": {"max_epochs": plan.epochs},
            "inferer": {"_target_": "densekit.inference.SlidingWindow", "window": [*plan.patch]},
            "callbacks": {"checkpoint": {"monitor": monitor, "mode": "max"}},
        }
        if monitor:
            content["trainer"]["check_val_every_n_epoch"] = plan.epochs_per_validation
        return {key: value for key, value in content.items() if value} | self._data(
            plan, found, cfg
        )

    def _data(self, plan: Plan, found: Fingerprint, cfg: dict[str, Any]) -> dict[str, Any]:
        """The data set with the plan's frame, and the `vars` that it may refer to."""
        frame = {
            "spacing": list(plan.spacing),
            "intensity": dict(plan.intensity),
            "cache": f"${{paths.runs}}/cache/{self.data}_planned",
        }
        parts = framed(cfg, frame, self.trust)
        patch = {"_target_": "densekit.data.Patch", "size": list(plan.patch), "balanced": 0.33}
        patch |= {"skip_background": True} if found.background else {}
        augment = {
            "_target_": "densekit.data.VolumeAugment",
            "steps": augmentation(plan, found.names),
        }
        steps = {"patch": patch, "augment": augment}
        parts["data"][self.data]["train_transform"] = {
            "_target_": "densekit.data.Chain",
            "steps": steps,
        }
        parts["data"][self.data]["batch_size"] = plan.batch_size
        return parts


def backbone_settings(network: Network, given: Iterable[str]) -> dict[str, Any]:
    """Returns the arguments of a ResNet, without those set on the command line."""
    settings: dict[str, Any] = {"stem": network.stem, "width": WIDTH}
    if any(network.skip_downsampling):
        settings["skip_downsampling"] = list(network.skip_downsampling)
    taken = set(given)
    return {key: value for key, value in settings.items() if f"backbone.{key}" not in taken}


def augmentation(plan: Plan, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns steps of `VolumeAugment`, as strong as in `experiment=hippocampus_unet3d`.

    No mirroring if classes distinguish left and right, and no rotation out of thick slices.
    """
    mirrored = not any(SIDES.search(name) for name in names)
    flips = {f"RandFlip_{axis}": {"prob": 0.5, "spatial_axis": i} for i, axis in enumerate("zyx")}
    coarse = max(range(3), key=lambda axis: plan.network.skip_downsampling[axis])
    angles = [0.26 if axis == coarse else 0.0 for axis in range(3)]
    turn: Any = angles if any(plan.network.skip_downsampling) else 0.26
    return {
        **(flips if mirrored else {}),
        "RandAffine": {"prob": 0.3, "rotate_range": turn, "scale_range": 0.15},
        "RandGaussianNoise": {"prob": 0.15, "std": 0.1},
        "RandScaleIntensity": {"prob": 0.3, "factors": 0.15},
        "RandAdjustContrast": {"prob": 0.2, "gamma": [0.75, 1.4]},
    }


def framed(
    cfg: Mapping[str, Any], frame: Mapping[str, Any], trust: Sequence[str]
) -> dict[str, Any]:
    """Sets spacing, intensity and cache in the data and the `vars` of a configuration.

    The mean and std of a data set are removed, since they belong to another frame.
    """
    parts = deepcopy({key: cfg[key] for key in ("vars", "data") if cfg[key]})
    for reader in readers_of_volumes(parts, "", trust):
        set_accepted(reader, deepcopy(dict(frame)), "data", trust)
    for source in parts["data"].values():
        source.pop("mean", None)
        source.pop("std", None)
    return parts


def readers_of_volumes(tree: Any, key: str, trust: Sequence[str]) -> list[dict[str, Any]]:
    """Finds the nodes of a configuration whose classes have the arguments in `FRAME`."""
    found = [(where, node) for where, node in walk(tree, key) if isinstance(node, dict)]
    return [
        node
        for where, node in found
        if "_target_" in node and (arguments(node, where, trust) or set()) >= FRAME
    ]


def set_accepted(
    node: dict[str, Any], values: Mapping[str, Any], key: str, trust: Sequence[str]
) -> None:
    """Sets those values that the node's class accepts."""
    accepted = arguments(node, key, trust) or set()
    node.update({name: value for name, value in values.items() if name in accepted})


def name_of(file: Path | None) -> str | None:
    """Returns the experiment name of a file, None if it is outside the experiment folder."""
    folder = Path(FOLDER).absolute()
    if file is None or file.suffix != ".yaml" or not file.absolute().is_relative_to(folder):
        return None
    return file.absolute().relative_to(folder).with_suffix("").as_posix()


def train_command(data: str, given: Overrides, file: Path | None) -> str:
    """Returns the training command, with the overrides that the file does not contain."""
    name = name_of(file) or f"{data}_planned"
    kept = given.values.where(lambda word: word.key.partition(".")[0] not in ("data", "vars"))
    return " ".join(["densekit train", *map(quoted, [f"experiment={name}", *kept.texts])])


def planned_file(data: str) -> str:
    """Returns the file that the command reads, unless the plan is written to that folder."""
    return f"{FOLDER}/{data}_planned.yaml"


def dump(content: Mapping[str, Any], flow: bool | None) -> str:
    """Writes YAML."""
    text: str = yaml.safe_dump(
        content, sort_keys=False, default_flow_style=flow, width=100, allow_unicode=True
    )
    return text
