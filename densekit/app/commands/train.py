"""`densekit train`: composes, checks, resolves, and starts a run or a sweep of runs."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from densekit._names import counted
from densekit.app.config.compose import Composed, apply_values, compose, is_choice, trusted
from densekit.app.config.data_info import (
    check_monitors,
    check_num_classes,
    check_resize,
    check_trained,
    model_info,
    say_unseen_classes,
)
from densekit.app.config.overrides import expand, quote_text
from densekit.app.config.resolve import (
    describe_data,
    dump,
    keep_axes,
    new_folder,
    reopen,
    resolve,
    run_name,
    set_run_dir,
    stored_run,
)
from densekit.app.config.trainer import check_taken
from densekit.app.errors import Stopped, UsageError, explain
from densekit.app.options import checkpoint_file, existing, split_options, with_trust
from densekit.app.report import print_lines, quoted
from densekit.app.run import launch
from densekit.app.run.console_log import kept_console
from densekit.app.run.keep import keep_heads, with_kept
from densekit.app.run.rehearsal import rehearse
from densekit.app.run.resuming import (
    GROUPS,
    check_classes,
    check_length,
    check_moved,
    check_resumed,
    chosen,
    group_of,
)
from densekit.app.run.sweep import is_hydras, sweep
from densekit.app.run.sweep_table import summarise, write_words
from densekit.build import instantiate
from densekit.trust import MODEL, without_weights

FLAGS = ("--multirun", "-m", "--resolve")
PENDING = Path("run")
"""Stands for the run folder while everything is checked; no folder appears before."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Words:
    """A command line, its flags apart.

    Attributes:
        overrides: key=value words.
        multirun: Run one job for every combination.
        show: Print the configuration instead of running.
        resolved: Print it with data sets built and interpolations resolved.
    """

    overrides: list[str]
    multirun: bool = False
    show: bool = False
    resolved: bool = False


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    words = read(arguments)
    if words.show:
        print(_shown(words), end="")
        return 0
    if words.multirun and is_hydras(words.overrides):
        return _search(words.overrides)
    if words.multirun:
        return _sweep(words.overrides)
    train(words.overrides)
    return 0


def read(arguments: Sequence[str]) -> Words:
    """Takes the flags out of a command line.

    Raises:
        UsageError: An unknown flag, or `--cfg` with anything but `job`.
    """
    overrides, flags, show = [], set(), False
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--cfg", "-c"):
            if (value if equals else next(words, "")) != "job":
                raise UsageError("--cfg: accepted is job, as in `densekit train --cfg job`")
            show = True
        elif word in FLAGS:
            flags.add(word)
        elif word.startswith("-"):
            raise UsageError(f"{word}: no such flag. Accepted: --cfg job, {', '.join(FLAGS)}")
        else:
            overrides.append(word)
    resolved = "--resolve" in flags
    return Words(overrides, bool(flags & {"--multirun", "-m"}), show or resolved, resolved)


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


def _search(arguments: Sequence[str]) -> int:
    """Runs the jobs of a sweeper or launcher of Hydra's."""
    options, words = split_options(arguments, {"objective": None, "run_name": None})
    of_runs = [word for word in words if word.startswith("paths.runs=")]
    runs = Path(str(compose(of_runs).cfg.paths.runs)).expanduser().absolute()
    folder = new_folder(runs / str(options["run_name"] or "search"))
    try:
        sweep(words, folder, options["objective"])
    finally:
        summarise(folder)  # of what was done before a job failed, too
    print_lines(f"runs: {folder}")
    return 0


def _sweep(arguments: Sequence[str]) -> int:
    """Runs every combination, one after the other; a failure does not stop the rest."""
    if launch.started_outside():
        raise UsageError("-m: start a sweep from one process, not under torchrun or srun")
    jobs = expand(arguments)
    first = [_configuration(job) for job in jobs][0]  # all are checked before any runs
    name = run_name(first.cfg, first.name)
    set_run_dir(first.cfg, PENDING)
    folder = new_folder(Path(first.cfg.paths.runs) / name)
    failed = []
    for number, job in enumerate(jobs):
        print_lines(f"job {number} of {len(jobs)}: {shlex.join(job)}")
        try:
            write_words(job, train(job, folder / str(number)))
        except Exception as error:
            logger.error("job %d failed", number, exc_info=explain(error) is None)
            failed.append(f"job {number} ({shlex.join(job)}): {explain(error) or repr(error)}")
    summarise(folder)
    done = f"{len(jobs) - len(failed)} of {counted(len(jobs), 'job')} done"
    print_lines(f"{done}, in {folder}", *failed)
    return 1 if failed else 0


def checked(overrides: Sequence[str]) -> tuple[DictConfig, str]:
    """A configuration that resolves, and the name of its runs; nothing has been written yet."""
    composed = _configuration(overrides)
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


def _check_end(cfg: Mapping[str, Any]) -> None:
    """Refuses a schedule that needs the end of a run that has none."""
    from densekit.training.schedules import check_end

    limits = cfg["trainer"]
    epochs, steps = limits.get("max_epochs"), limits.get("max_steps", -1)
    if steps == -1 and (epochs == -1 or (epochs is None and limits.get("max_time"))):
        check_end(instantiate(cfg["schedule"], "schedule"))


def _configuration(overrides: Sequence[str]) -> Composed:
    """Composes; `resume=PATH` without a choice of groups takes the configuration from the file."""
    options, rest = split_options(overrides, {"resume": None, "checkpoint": None})
    found = {key: value for key, value in options.items() if value is not None}
    if "checkpoint" in found:
        found["checkpoint"] = str(checkpoint_file("train", found["checkpoint"]).absolute())
    if "resume" in found:
        found["resume"] = str(_resumable(existing("train", "resume", found["resume"]).absolute()))
    words = [*rest, *(f"{key}={quote_text(value)}" for key, value in found.items())]
    if "resume" in found and "checkpoint" in found:
        raise UsageError("resume, checkpoint: expected one of the two, got both")
    if "resume" in found and all(group_of(w) in GROUPS for w in rest if is_choice(w)):
        return _stored(Path(found["resume"]), words)
    return compose(words)


def _stored(checkpoint: Path, words: Sequence[str]) -> Composed:
    """The configuration that a checkpoint was trained with, `words` applied to it."""
    from densekit.artifact import load_artifact

    artifact = load_artifact(checkpoint)
    plain = yaml.safe_load(artifact["config"])
    trust = trusted(words)
    plain = reopen(stored_run(plain, checkpoint, words, trust))
    keep_axes(plain["data"], artifact["info"])
    choices = [word for word in words if is_choice(word)]
    words = [word for word in words if word not in choices]
    plain |= chosen(choices, plain["trainer"])
    cfg = OmegaConf.create(plain)
    OmegaConf.set_struct(cfg, True)
    cfg.checkpoint = None
    check_moved(words, plain["data"])
    apply_values(cfg, words, trust)
    changed: Any = OmegaConf.to_container(cfg)
    check_resumed({**plain, "checkpoint": None}, changed, checkpoint)
    return Composed(cfg, str(cfg.run_name))


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


def _resumable(path: Path) -> Path:
    """The checkpoint to go on from: the one named, or the previous whole one if it is damaged."""
    from densekit.artifact import BrokenCheckpointError, load_artifact
    from densekit.training import furthest_checkpoint

    if path.is_dir() and (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if path.is_file():
        # A file that is refused for what it holds is an alarm, not a reason to try its neighbour.
        with contextlib.suppress(BrokenCheckpointError):
            load_artifact(path)
    found: Path = furthest_checkpoint(path)
    return found


def _shown(words: Words) -> str:
    """The configuration as YAML text."""
    if not words.resolved:
        return OmegaConf.to_yaml(_configuration(words.overrides).cfg)
    cfg, name = checked(words.overrides)
    set_run_dir(cfg, Path(cfg.paths.runs) / name / "TIMESTAMP")
    return dump(resolve(cfg))


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
