"""Runs a study: its configurations, the finished runs of an earlier start, and the report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densekit._names import counted, unknown
from densekit.app.config.overrides import expand, parse
from densekit.app.errors import UsageError
from densekit.app.options.shared import output_folder
from densekit.app.run.folder import CONFIG, in_folder, new_folder, write_config
from densekit.app.run.job import checked, configuration
from densekit.app.run.launch import count_devices, started_outside
from densekit.app.studies.degradation import NETS, SIGNAL, Outcomes, Twin, ends, read_outcome
from densekit.app.studies.report import report
from densekit.app.studies.workers import LOG, run_all, why_failed
from densekit.app.terminal import print_lines
from densekit.build import walk


def run_study(
    study: str, grid: Mapping[str, str], args: Sequence[str], output: str | None, jobs: int | None
) -> int:
    """Trains the networks of a study and reports on them; returns 1 if a run failed.

    Args:
        study: The experiment that the runs derive from, unless an override names another one.
        grid: Keys that vary between the runs, and their values unless overrides give others.
        args: Overrides of the configuration.
        output: The folder of the study; a new one by default.
        jobs: Runs at a time; one per CPU core by default.

    Raises:
        UsageError: An override is wrong; nothing has been written then.
    """
    if started_outside():
        raise UsageError("densekit study: expected a single process, got one of torchrun or srun")
    configs = _configs(study, grid, args)
    depths = ends(configs)
    folder = _folder(output, configs)
    print_lines(f"study folder: {folder}")
    outcomes, failed = _run(configs, folder, jobs or os.cpu_count() or 1)
    if outcomes:
        report(outcomes, depths, folder)
    print_lines(*failed)
    return 1 if failed else 0


def _configs(study: str, grid: Mapping[str, str], args: Sequence[str]) -> dict[Twin, Any]:
    """A checked configuration for every network; nothing has been written yet."""
    given = parse(args, sweep=True)
    for word in given:
        if word.is_sweep and word.key not in grid:
            message = unknown(word.text, word.key, grid)
            raise UsageError(f"{message} (only these keys may vary between the runs of a study)")
    chosen = [f"{key}={value}" for key, value in grid.items() if key not in given.keys]
    if "experiment" not in given.keys:
        chosen.append(f"experiment={study}")
    configs = {}
    for overrides in expand(parse(chosen, sweep=True) + given):
        cfg = checked(configuration(overrides)).cfg
        if (count := count_devices(cfg["trainer"])) > 1:
            raise UsageError(
                f"trainer.devices: expected one device per run of a study, got {count};"
                " jobs=N trains N networks at a time"
            )
        net, depth = NETS[bool(cfg["backbone"]["residual"])], int(cfg["backbone"]["depth"])
        configs[Twin(net, depth, int(cfg["seed"]))] = cfg
    # The longest first, so that no core waits for them at the end.
    return dict(sorted(configs.items(), key=lambda item: (-item[0].depth, item[0])))


def _folder(given: Any, configs: Mapping[Twin, Any]) -> Path:
    if given is not None:
        return output_folder(given)
    cfg = next(iter(configs.values()))
    return new_folder(Path(cfg["paths"]["runs"]) / cfg["run_name"])


def _run(configs: Mapping[Twin, Any], folder: Path, at_once: int) -> tuple[Outcomes, list[str]]:
    """Runs what is not done yet; returns the outcomes and a message for each failed run."""
    head = next(iter(next(iter(configs.values()))["heads"]))
    resolved = {}
    for twin, cfg in configs.items():
        resolved[str(twin)] = {"command": "train", **in_folder(cfg, folder / str(twin))}
        _check_same(resolved[str(twin)], folder / str(twin) / CONFIG)
    files = {
        name: write_config(job, folder / name)
        for name, job in resolved.items()
        if read_outcome(folder / name, head) is None
    }
    done = len(configs) - len(files)
    if done:
        print_lines(f"{done} of {counted(len(configs), 'run')} are already complete")
    failed = []
    for name, code, seconds in run_all(files, at_once):
        done += 1
        outcome = read_outcome(folder / name, head) if code == 0 else None
        if outcome is None:
            log = folder / name / LOG
            reason = why_failed(log) if code else f"it wrote no test metrics or no {SIGNAL}"
            failed.append(f"FAILED: {name}: {reason} (full log: {log})")
            print_lines(f"{done:>3} of {len(configs)}  {failed[-1]}")
            continue
        errors = f"training error {outcome.train_error:6.1%}, test error {outcome.test_error:6.1%}"
        print_lines(f"{done:>3} of {len(configs)}  {name:<24}{errors}, {seconds:.0f} s")
    outcomes = {twin: read_outcome(folder / str(twin), head) for twin in configs}
    return {twin: found for twin, found in outcomes.items() if found is not None}, failed


def _check_same(resolved: Mapping[str, Any], file: Path) -> None:
    """Refuses to mix runs of different settings in one folder."""
    if not file.is_file():
        return
    before = dict(walk(yaml.safe_load(file.read_text("utf-8"))))
    after = dict(walk(yaml.safe_load(yaml.safe_dump(dict(resolved)))))
    leaves = [key for key in [*after, *before] if not isinstance(after.get(key), dict | list)]
    for key in leaves:
        if before.get(key) != after.get(key):
            raise UsageError(
                f"{file}: {key}: expected {before.get(key)} as in the earlier runs, got"
                f" {after.get(key)}; continue with the same overrides, or set another output=DIR"
            )
