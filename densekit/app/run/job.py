"""One run of `densekit train`: composed, checked, resolved, and started in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from densekit.app.config.compose import Composed, compose, is_choice
from densekit.app.config.data_checks import (
    check_monitors,
    check_num_classes,
    check_resize,
    check_trained,
    say_unseen_classes,
)
from densekit.app.config.data_info import model_info
from densekit.app.config.overrides import quote_text
from densekit.app.config.resolve import describe_data, resolve
from densekit.app.config.trainer import check_taken
from densekit.app.errors import Stopped, UsageError
from densekit.app.options import split_options
from densekit.app.report import print_lines, quoted
from densekit.app.run import launch
from densekit.app.run.console_log import kept_console
from densekit.app.run.folder import run_name, set_run_dir
from densekit.app.run.keep import keep_heads, with_kept
from densekit.app.run.rehearsal import rehearse
from densekit.app.run.resuming import GROUPS, check_classes, check_length, check_resumed, group_of
from densekit.app.run.stored import resumable, resumed
from densekit.app.shared_options import RESUME, START, checkpoint_file, existing, with_trust
from densekit.build import instantiate
from densekit.trust import MODEL, without_weights

PENDING = Path("run")
"""Stands for the run folder while everything is checked; no folder appears before."""


def train(
    overrides: Sequence[str], run: Path | None = None, told: Mapping[str, Any] | None = None
) -> Path:
    """Runs one job and returns its run folder.

    Args:
        overrides: Words of the command line.
        run: The run folder; default a new one in `paths.runs/NAME`.
        told: What a sweep adds: the `objective`, and the `direction` of what is better.

    Raises:
        UsageError: Something is wrong with the words; nothing has been written then.
    """
    cfg, name = checked(overrides)
    run = run or launch.agree_on_folder(Path(cfg.paths.runs) / name)
    set_run_dir(cfg, run)
    job, trust = {"command": "train", **(told or {}), **resolve(cfg)}, with_trust(list(cfg.trust))
    if not launch.is_main():
        launch.start(job)
        return run
    with kept_console(run):
        print_lines(f"run folder: {run}")
        try:
            launch.start(job)
        except Stopped:
            if (run / "checkpoints" / "last.ckpt").exists():
                print_lines(f"continue:   densekit train {quoted(f'resume={run}')}{trust}")
            raise
        _say_what_next(run, trust, job["trainer"])
    return run


def checked(overrides: Sequence[str]) -> tuple[DictConfig, str]:
    """A configuration that resolves, and the name of its runs; nothing has been written yet."""
    composed = configuration(overrides)
    cfg = composed.cfg
    name = run_name(cfg, composed.name)
    if cfg.paths.run is not None:
        raise UsageError("paths.run: expected nothing, as a run makes its folder; set paths.runs")
    check_taken(cfg.trainer)
    launch.check(dict(cfg.trainer))
    set_run_dir(cfg, PENDING)
    kept = keep_heads(cfg)
    sources = describe_data(cfg)
    check_trained(sources, [name for name in cfg.heads if name not in kept])
    say_unseen_classes(sources)
    plain = resolve(cfg)
    check_num_classes(sources, plain["heads"])
    if cfg.resume:
        _check_resumed(plain, sources)
    check_monitors(plain["callbacks"], sources, cfg.heads)
    check_resize(plain["resize"], sources)
    _check_end(plain)
    info = with_kept(model_info(sources, plain["heads"], plain["resize"]), plain["kept"])
    if not launch.started_outside():
        rehearse(plain, info)
    return cfg, name


def configuration(overrides: Sequence[str]) -> Composed:
    """Composes; `resume=PATH` without a choice of groups takes the configuration from the file."""
    options, rest = split_options(overrides, (RESUME, START))
    found = {key: value for key, value in options.items() if value is not None}
    if "checkpoint" in found:
        found["checkpoint"] = str(checkpoint_file(found["checkpoint"]).absolute())
    if "resume" in found:
        found["resume"] = str(resumable(existing("resume", found["resume"]).absolute()))
    words = [*rest, *(f"{key}={quote_text(value)}" for key, value in found.items())]
    if "resume" in found and "checkpoint" in found:
        raise UsageError("resume, checkpoint: expected one of the two, got both")
    if "resume" in found and all(group_of(w) in GROUPS for w in rest if is_choice(w)):
        return resumed(Path(found["resume"]), words)
    return compose(words)


def _check_resumed(plain: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    """Refuses what would make a resumed run another one, now that everything is worked out."""
    from densekit.artifact import load_artifact
    from densekit.training import progress

    file = Path(plain["resume"])
    artifact = load_artifact(file)
    stored = yaml.safe_load(artifact["config"])
    weights = {key: without_weights(stored.get(key)) for key in MODEL}
    own = {key: without_weights(plain.get(key)) for key in MODEL}
    check_resumed({**stored, "checkpoint": None} | weights, {**plain} | own, file)
    check_length(plain["trainer"], progress(file)[1], file)
    check_classes(sources, artifact["info"].get("heads", {}), file)


def _check_end(cfg: Mapping[str, Any]) -> None:
    """Refuses a schedule that needs the end of a run that has none."""
    from densekit.training.schedules import check_end

    limits = cfg["trainer"]
    epochs, steps = limits.get("max_epochs"), limits.get("max_steps", -1)
    if steps == -1 and (epochs == -1 or (epochs is None and limits.get("max_time"))):
        check_end(instantiate(cfg["schedule"], "schedule"))


def _say_what_next(run: Path, trust: str, trainer: Mapping[str, Any]) -> None:
    last = run / "checkpoints" / "last.ckpt"
    if not last.exists():
        return
    word, more = quoted(f"checkpoint={run}"), f"trainer.{_limit(trainer, last)}=MORE"
    print_lines(
        f"evaluate:   densekit eval {word}{trust}",
        f"predict:    densekit predict {word} source=FOLDER output=DIR{trust}",
        f"continue:   densekit train {quoted(f'resume={run}')} {more}{trust}",
    )


def _limit(trainer: Mapping[str, Any], last: Path) -> str:
    """The limit that has ended the run, which a longer one has to raise."""
    from densekit.training import progress

    step, epoch = progress(last)
    if 0 <= trainer.get("max_steps", -1) <= step:
        return "max_steps"
    epochs = trainer.get("max_epochs")
    is_through = epochs is not None and 0 <= epochs <= epoch + 1
    return "max_time" if trainer.get("max_time") and not is_through else "max_epochs"
