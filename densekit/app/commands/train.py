"""`densekit train`: composes, checks and resolves a configuration, then starts runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from densekit._names import unknown
from densekit.app.config.groups import groups
from densekit.app.errors import UsageError
from densekit.app.options.shared import OBJECTIVE, PROGRESS, RESUME, RUN_NAME, START, TRUST
from densekit.app.options.table import Command

COMMAND = Command(
    name="train",
    usage="[group=NAME ...] [key=value ...] [-m] [--cfg job] [--resolve]",
    about="""
Trains a model, validates it after every epoch and finally tests the best checkpoint. Everything is
written to one new folder, runs/NAME/TIMESTAMP: checkpoints, the resolved configuration,
console.log, metrics.json, learning curves and images.
""",
    examples=(
        "train experiment=quickstart",
        "train experiment=bccd_faster_rcnn paths.data=FOLDER",
        "train experiment=quickstart backbone=resnet50 optimizer=adamw optimizer.lr=1e-4",
        "train experiment=quickstart trainer.devices=2 trainer.accelerator=cpu",
        "train experiment=coco_faster_rcnn_r50_1x trainer.devices=4 paths.data=FOLDER",
        "train -m experiment=quickstart seed=0,1,2",
        "train resume=runs/NAME/TIMESTAMP",
        "train +heads.mine._target_=my_head.MyHead 'trust=[my_head]' \\\n"
        "                 'data.scenes.heads=[detection,mine]'",
    ),
    options=(RESUME, START, RUN_NAME, PROGRESS, OBJECTIVE),
    settings=(
        ("group=NAME", "choose a file of a group, listed below; your own go into ./conf/GROUP/"),
        ("key=value", "set one value, including any argument of a class in the configuration"),
        ("+head@heads.NAME=HEAD", "add a head"),
        ("profile=true", "write a trace of some steps to the run folder"),
        TRUST.row,
        ("-m, --multirun", "one run per combination of a=1,2 b=x,y, one after the other"),
        ("hydra/launcher=NAME", "with -m: what starts the runs, for example submitit_slurm"),
        ("hydra/sweeper=NAME", "with -m: what chooses the runs, for example optuna"),
        ("--cfg job", "print the configuration instead of training"),
        ("--resolve", "print the configuration as the run would use it"),
    ),
    overrides=True,
    groups=groups,
)
FLAGS = ("--multirun", "-m", "--resolve")


@dataclass(frozen=True)
class Line:
    """A command line with its flags parsed.

    Attributes:
        overrides: Arguments key=value.
        multirun: Whether to run one job per combination.
        show: Whether to print the configuration instead of running.
        resolved: Whether to print it with data sets built and interpolations resolved.
    """

    overrides: list[str]
    multirun: bool = False
    show: bool = False
    resolved: bool = False


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    line = read(arguments)
    from densekit.app.config.overrides import parse
    from densekit.app.run.job import configuration, train
    from densekit.app.run.sweep import grid, search, uses_hydra

    if line.show:
        print(_shown(line), end="")
        return 0
    if line.multirun and uses_hydra(line.overrides):
        return search(line.overrides)
    if line.multirun:
        return grid(parse(line.overrides, sweep=True))
    train(configuration(parse(line.overrides)))
    return 0


def read(arguments: Sequence[str]) -> Line:
    """Separates the flags of a command line from its overrides.

    Raises:
        UsageError: An unknown flag, or `--cfg` with anything but `job`.
    """
    overrides, flags, show = [], set(), False
    remaining = iter(arguments)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name in ("--cfg", "-c"):
            if (kind := value if equals else next(remaining, "")) != "job":
                raise UsageError(f"--cfg: expected job, got {kind or 'nothing'}")
            show = True
        elif word in FLAGS:
            flags.add(word)
        elif word.startswith("-"):
            raise UsageError(unknown("densekit train", word, ["--cfg job", *FLAGS]))
        else:
            overrides.append(word)
    resolved = "--resolve" in flags
    return Line(overrides, bool(flags & {"--multirun", "-m"}), show or resolved, resolved)


def _shown(line: Line) -> str:
    """The configuration as YAML text."""
    from omegaconf import OmegaConf

    from densekit.app.config.overrides import parse
    from densekit.app.run.folder import dump, in_folder
    from densekit.app.run.job import checked, configuration

    composed = configuration(parse(line.overrides))
    if not line.resolved:
        return OmegaConf.to_yaml(composed.cfg)
    job = checked(composed)
    return dump(in_folder(job.cfg, Path(job.cfg["paths"]["runs"]) / job.name / "TIMESTAMP"))
