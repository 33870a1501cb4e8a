"""One run of `densekit train`: checked as a whole, then started in its own folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densekit.app.config.compose import Composed, compose
from densekit.app.config.data_checks import (
    check_monitors,
    check_num_classes,
    check_object_masks,
    check_order,
    check_resize,
    check_trained,
    warn_of_unseen_classes,
)
from densekit.app.config.data_info import model_info
from densekit.app.config.overrides import Overrides, with_trust
from densekit.app.config.resolve import describe_data, resolve
from densekit.app.config.trainer import check_taken
from densekit.app.errors import Stopped, UsageError
from densekit.app.options.shared import checkpoint_file, existing
from densekit.app.run import launch
from densekit.app.run.architecture import take_architecture
from densekit.app.run.attempts import agree_on_attempt, forget_attempts
from densekit.app.run.batch_size import automatic, check_automatic, is_auto, set_largest
from densekit.app.run.console_log import kept_console, remembered
from densekit.app.run.expectations import check_asserted, expectations, report_expected
from densekit.app.run.folder import METRICS, PENDING, in_folder, run_name, set_run_dir
from densekit.app.run.keep import keep_heads, with_kept
from densekit.app.run.record import record_start
from densekit.app.run.rehearsal import rehearse
from densekit.app.run.resuming import GROUPS, check_continues
from densekit.app.run.stored import resumable, resumed
from densekit.app.terminal import print_lines, quoted
from densekit.build import instantiate


@dataclass(frozen=True)
class Job:
    """A run that has no folder yet.

    Attributes:
        cfg: Resolved configuration with `PENDING` as the run folder.
        name: Folder in `paths.runs` in which the run folder is created.
        sources: The data sets by name.
    """

    cfg: dict[str, Any]
    name: str
    sources: dict[str, Any]

    def placed(self, run: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The configuration for a run folder, and the data sets.

        Data sets that use the run folder are released; they must be built again there.
        """
        cfg = in_folder(self.cfg, run)
        if cfg["data"] == self.cfg["data"]:
            return cfg, self.sources
        self.sources.clear()
        shutil.rmtree(PENDING, ignore_errors=True)
        return cfg, None


def train(
    composed: Composed, run: Path | None = None, extra: Mapping[str, Any] | None = None
) -> Path:
    """Runs one job and returns its run folder.

    Args:
        composed: See `configuration`.
        run: The run folder; default a new one in `paths.runs/NAME`.
        extra: Keys that a sweep adds: `objective`, and the `direction` in which it improves.

    Raises:
        UsageError: The configuration is wrong; nothing has been written then.
        UnmetError: The run is done, but `assert_expected` is true and a metric is not as expected.
    """
    with remembered() as earlier_lines:
        job = checked(composed)
    parent = Path(job.cfg["paths"]["runs"]) / job.name
    run, resume = (run, None) if run else agree_on_attempt(parent)
    placed, sources = job.placed(run)
    cfg = {"command": "train", **(extra or {}), **placed}
    if resume is not None:
        cfg |= {"resume": str(resume), "checkpoint": None}
        check_continues(cfg, job.sources, launch.count_processes(cfg["trainer"]))
    if not launch.is_main():
        launch.start(cfg, sources)
        return run
    trust = with_trust(cfg["trust"])
    with kept_console(run, earlier_lines):
        record_start(run)
        print_lines(f"run folder: {run}", *([f"continues:  {resume}"] if resume else []))
        try:
            launch.start(cfg, sources)
        except Stopped:
            if (run / "checkpoints" / "last.ckpt").exists():
                print_lines(f"continue:   densekit train {quoted(f'resume={run}')}{trust}")
            raise
        forget_attempts(parent)
        _print_next_commands(run, trust, cfg)
        asserted = bool(cfg.get("assert_expected"))  # older runs have none
        report_expected(expectations(cfg.get("expected")), run / METRICS, asserted=asserted)
    return run


def configuration(overrides: Overrides) -> Composed:
    """Composes a configuration; `resume=PATH` without other groups takes it from the checkpoint."""
    auto = automatic(overrides)
    overrides = overrides.where(lambda word: not is_auto(word.text))
    named = {key: overrides.last(key) for key in ("resume", "checkpoint")}
    found = {key: value for key, value in named.items() if value is not None}
    if len(found) == 2:
        raise UsageError("resume, checkpoint: expected one of the two, got both")
    rest = overrides.where(lambda word: word.key not in found)
    if "resume" in found:
        if auto:
            raise UsageError(f"data.{auto}.batch_size: expected a number beside resume=, got auto")
        file = resumable(existing("resume", found["resume"]).absolute())
        own = all(word.key in GROUPS for word in rest.choices)
        composed = resumed(file, rest) if own else compose(rest)
        composed.cfg.resume = str(file)
        return composed
    composed = compose(rest)
    if "checkpoint" in found:
        file = checkpoint_file(found["checkpoint"]).absolute()
        composed.cfg.checkpoint = str(file)
        take_architecture(composed.cfg, rest)
    return replace(composed, auto=auto)


def checked(composed: Composed) -> Job:
    """Prepares and checks a run, which can then be started; writes nothing.

    Raises:
        UsageError: The configuration is wrong.
    """
    check_taken(composed.cfg.trainer)
    launch.check(dict(composed.cfg.trainer))
    job = prepared(composed)
    expected = expectations(job.cfg.get("expected"))
    if job.cfg.get("assert_expected"):
        check_asserted(expected)
    check_order(job.sources)
    warn_of_unseen_classes(job.sources)
    if job.cfg["resume"]:
        check_continues(job.cfg, job.sources, launch.count_processes(job.cfg["trainer"]))
    named = {**job.cfg["heads"], **job.cfg.get("combine", {})}
    check_monitors(job.cfg["callbacks"], job.sources, named)
    _check_end(job.cfg)
    info = model_info(job.sources, job.cfg["heads"], job.cfg["resize"])
    if not launch.started_outside():
        rehearse(job.cfg, with_kept(info, job.cfg["kept"]))
    return job


def prepared(composed: Composed) -> Job:
    """Builds the data sets of a configuration and resolves it.

    Raises:
        UsageError: A value is missing, or data and heads do not fit.
    """
    cfg = composed.cfg
    if cfg.paths.run is not None:
        raise UsageError(
            f"paths.run: expected nothing, as a run creates its own folder, got {cfg.paths.run};"
            " set paths.runs"
        )
    name = run_name(cfg, composed.name)
    set_run_dir(cfg, PENDING)
    kept = keep_heads(cfg)
    sources = describe_data(cfg)
    check_trained(sources, [head for head in cfg.heads if head not in kept])
    plain = resolve(cfg, sources)
    check_num_classes(sources, plain["heads"])
    learning = {head: node for head, node in plain["heads"].items() if head not in kept}
    check_object_masks(sources, learning, plain["trust"])
    check_resize(plain["resize"], sources)
    if composed.auto:
        processes = launch.count_processes(plain["trainer"])
        check_automatic(composed.auto, sources, processes)
        set_largest(plain, sources, composed.auto)
    return Job(plain, name, sources)


def _check_end(cfg: Mapping[str, Any]) -> None:
    """Refuses a schedule that depends on the length of a run without a fixed length."""
    from densekit.training.schedules import check_end

    limits = cfg["trainer"]
    epochs, steps = limits.get("max_epochs"), limits.get("max_steps", -1)
    if steps == -1 and (epochs == -1 or (epochs is None and limits.get("max_time"))):
        check_end(instantiate(cfg["schedule"], "schedule"))


def _print_next_commands(run: Path, trust: str, cfg: Mapping[str, Any]) -> None:
    last = run / "checkpoints" / "last.ckpt"
    if not last.exists():
        return
    word, more = quoted(f"checkpoint={run}"), f"{_limit(cfg, last)}=MORE"
    print_lines(
        f"evaluate:   densekit eval {word}{trust}",
        f"report:     densekit report {quoted(run)}{trust}",
        f"predict:    densekit predict {word} source=FOLDER output=DIR{trust}",
        f"continue:   densekit train {quoted(f'resume={run}')} {more}{trust}",
    )


def _limit(cfg: Mapping[str, Any], last: Path) -> str:
    """The key of the limit that ended the run, which must be raised to train longer."""
    from densekit.training import progress

    trainer, (step, epoch) = cfg["trainer"], progress(last)
    if 0 <= trainer.get("max_steps", -1) <= step:
        return "trainer.max_steps"
    epochs = trainer.get("max_epochs")
    if epochs is not None and 0 <= epochs <= epoch + 1:
        return "trainer.max_epochs"
    for name, node in cfg["callbacks"].items():
        if node and str(node["_target_"]).endswith(".EarlyStopping"):
            return f"callbacks.{name}.patience"
    return "trainer.max_time" if trainer.get("max_time") else "trainer.max_epochs"
