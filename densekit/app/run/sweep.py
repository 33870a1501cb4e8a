"""`densekit train -m`: runs all combinations in turn, or the jobs of a Hydra sweeper."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from densekit._names import counted, unknown
from densekit.app.config.compose import compose, for_hydra
from densekit.app.config.monitor import MAIN
from densekit.app.config.overrides import Overrides, expand, parse
from densekit.app.config.quoting import quote_text
from densekit.app.errors import UsageError, explain
from densekit.app.options.shared import OBJECTIVE, RUN_NAME
from densekit.app.options.table import split_options
from densekit.app.run import launch
from densekit.app.run.folder import METRICS, checked_name, new_folder, run_name
from densekit.app.run.job import configuration, train
from densekit.app.run.sweep_table import summarise, write_overrides
from densekit.app.terminal import print_lines

logger = logging.getLogger(__name__)

GROUPS = ("hydra/sweeper", "hydra/launcher")


def uses_hydra(arguments: Sequence[str]) -> bool:
    """Whether a multirun chooses a Hydra sweeper or launcher."""
    return any(word.lstrip("+").partition("=")[0] in GROUPS for word in arguments)


def grid(overrides: Overrides) -> int:
    """Runs all combinations, one after the other; a failure does not stop the rest."""
    if launch.started_outside():
        raise UsageError("-m: expected a single process, got one of torchrun or srun")
    jobs = [
        (job.texts, configuration(job)) for job in expand(overrides)
    ]  # all are composed before the first one runs
    first = jobs[0][1]
    runs = Path(str(first.cfg.paths.runs)).expanduser().absolute()
    folder = new_folder(runs / run_name(first.cfg, first.name))
    failed = []
    for number, (args, composed) in enumerate(jobs):
        print_lines(f"job {number} of {len(jobs)}: {shlex.join(args)}")
        try:
            write_overrides(args, train(composed, folder / str(number)))
        except Exception as error:
            logger.error("job %d failed", number, exc_info=explain(error) is None)
            failed.append(f"job {number} ({shlex.join(args)}): {explain(error) or repr(error)}")
    summarise(folder)
    done = f"{len(jobs) - len(failed)} of {counted(len(jobs), 'job')} done"
    print_lines(f"{done}, in {folder}", *failed)
    return 1 if failed else 0


def search(arguments: Sequence[str]) -> int:
    """Runs the jobs of a Hydra sweeper or launcher."""
    options, args = split_options(arguments, (OBJECTIVE, RUN_NAME))
    of_hydra = [word for word in args if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    of_jobs = parse([word for word in args if word not in of_hydra], sweep=True)
    objective = options["objective"]
    if objective is None and any(_searches(word) for word in of_hydra):
        objective = MAIN
    of_runs = compose(of_jobs.where(lambda word: word.key == "paths.runs")).cfg
    runs = Path(str(of_runs.paths.runs)).expanduser().absolute()
    folder = new_folder(runs / checked_name(str(options["run_name"] or "search")))
    try:
        sweep(of_jobs, of_hydra, folder, objective)
    finally:
        summarise(folder)  # covers the jobs done before one failed, too
    print_lines(f"runs: {folder}")
    return 0


def sweep(of_jobs: Overrides, of_hydra: Sequence[str], folder: Path, objective: str | None) -> None:
    """Runs the jobs that a sweeper asks for, wherever a launcher starts them.

    Each job is a run of `densekit train`, in FOLDER/NUMBER, with the overrides that the sweeper has
    filled in; the sweeper's own files are in FOLDER.

    Args:
        of_jobs: Overrides, some with ranges.
        of_hydra: Arguments that set Hydra's own keys.
        folder: Parent folder of the runs.
        objective: The metric of `metrics.json` that the sweeper optimises, `main` for the main one;
            None for a sweeper that optimises nothing.

    Raises:
        UsageError: A sweeper or launcher is not installed, the overrides do not compose, or a job
            has no such metric.
    """
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from densekit.app.config import groups

    args = for_hydra(of_jobs)
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("densekit", create_config_search_path(str(groups.own_conf())))
    own = [
        groups.searchpath(groups.extra_folders()),
        f"hydra.sweep.dir={quote_text(str(folder))}",
        "hydra.sweep.subdir=${hydra.job.num}",
        "hydra.output_subdir=null",  # the run folder already holds the configuration
    ]
    try:
        hydra.multirun(
            config_name="config",
            task_function=partial(_job, objective=objective),
            overrides=[*own, *of_hydra, *args],
            with_log_configuration=False,
        )
    except (HydraException, OmegaConfBaseException) as error:
        hint = "(pip install 'densekit[sweep]' brings Optuna and submitit)"
        raise UsageError(f"{error}\n{hint}") from error
    finally:
        GlobalHydra.instance().clear()


def metric_value(metrics: Path, objective: str) -> float:
    """Reads a metric of a run.

    Raises:
        UsageError: The run has not measured it, or it is null, which cannot be the best value.
    """
    content: dict[str, Any] = json.loads(metrics.read_text("utf-8"))
    found = {name: value for name, value in content.items() if not isinstance(value, str)}
    if objective not in found:
        raise UsageError(unknown("objective", objective, found))
    if found[objective] is None:
        raise UsageError(f"objective: expected a value of {objective}, got none in {metrics}")
    return float(found[objective])


def settled_objective(run: Path) -> str:
    """Reads the name of a run's main metric from its checkpoint.

    Raises:
        UsageError: The run has no checkpoint.
    """
    import yaml

    from densekit.artifact import read_checkpoint

    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise UsageError(f"objective: expected a metric by name, got main without {last}")
    return str(yaml.safe_load(read_checkpoint(last)["config"])["objective"])


def _job(cfg: Any, objective: str | None) -> float | None:
    """Runs one job when Hydra calls it, perhaps on another machine; composes it once more."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    GlobalHydra.instance().clear()  # or nothing could be composed here
    folder = Path(str(hydra.sweep.dir)) / str(hydra.sweep.subdir)
    direction = OmegaConf.select(cast(DictConfig, hydra), "sweeper.direction")
    extra = {"objective": objective, "direction": getattr(direction, "name", direction)}
    # Not resolved: interpolations refer to our configuration, not to Hydra's.
    args: Any = OmegaConf.to_container(hydra.overrides.task)
    run = train(configuration(parse(args)), folder, extra)
    write_overrides(args, run)
    if objective is None:
        return None
    return metric_value(run / METRICS, settled_objective(run) if objective == MAIN else objective)


def _searches(word: str) -> bool:
    """Whether an argument names a sweeper that optimises, as Optuna does."""
    key, _, value = word.lstrip("+").partition("=")
    return key == "hydra/sweeper" and value != "basic"
