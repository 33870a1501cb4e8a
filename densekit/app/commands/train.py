"""`densekit train`: composes, checks, resolves, and starts a run or a sweep of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from densekit.app.config.resolve import resolve
from densekit.app.errors import UsageError
from densekit.app.run.folder import dump, set_run_dir
from densekit.app.run.job import checked, configuration, train
from densekit.app.run.sweep import grid, is_hydras, search

FLAGS = ("--multirun", "-m", "--resolve")


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
        return search(words.overrides)
    if words.multirun:
        return grid(words.overrides)
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


def _shown(words: Words) -> str:
    """The configuration as YAML text."""
    if not words.resolved:
        return OmegaConf.to_yaml(configuration(words.overrides).cfg)
    cfg, name = checked(words.overrides)
    set_run_dir(cfg, Path(cfg.paths.runs) / name / "TIMESTAMP")
    return dump(resolve(cfg))
