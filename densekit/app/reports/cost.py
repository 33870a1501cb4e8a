"""What the model costs: parameters, and whatever of time and memory was measured."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from densekit._names import readable
from densekit.app.reports.blocks import Block, Facts, Note
from densekit.app.reports.folder import Run, console_text
from densekit.app.terminal import quoted
from densekit.metrics.analyses import Cell, Table

STEP = re.compile(r"([\d.]+) s/step.*?memory ([\d.]+) (MiB|GiB)")
"""What the progress of a training says of a step."""
WORK = re.compile(r"^step: (.+)$", re.MULTILINE)
"""What the model summary says of the first step."""
PHASES = re.compile(r"^time: (.+)$", re.MULTILINE)
"""What the run says of its phases."""
MIB = {"MiB": 1.0, "GiB": 1024.0}


def cost(run: Run) -> list[Block]:
    """Parameters by part, time and memory of the training, and benchmarks kept in the folder."""
    blocks: list[Block] = [*_parameters(run), *_training(run)]
    timed = [table for file in sorted(run.path.glob("*.json")) if (table := _benchmark(file))]
    if timed:
        return [*blocks, *timed]
    model = run.path if run.checkpoint else run.config.get("checkpoint")
    words = f"checkpoint={model}", f"output={run.path / 'benchmark.json'}"
    command = " ".join(["densekit benchmark", *map(quoted, words)])
    text = "FLOPs, memory and latency by engine were not measured."
    return [*blocks, Note(text, command if model else "")]


def _parameters(run: Run) -> list[Block]:
    recorded = run.record.get("parameters")
    if not isinstance(recorded, dict) or not recorded:
        return []
    rows: list[list[Cell]] = [
        [part, counts["all"], counts["trained"]] for part, counts in recorded.items()
    ]
    total = [sum(int(row[column] or 0) for row in rows) for column in (1, 2)]
    return [Table("Parameters", ["part", "parameters", "trained"], [*rows, ["all", *total]])]


def _training(run: Run) -> list[Block]:
    """What the console log says of the steps, and the size of the checkpoint."""
    log = console_text(run)
    values: dict[str, str] = {}
    for name, line in (("a training step", WORK), ("time", PHASES)):
        if said := line.search(log):
            values[name] = said.group(1)
    found = STEP.findall(log)
    if found:
        seconds = statistics.median(float(step) for step, _, _ in found)
        memory = max(float(size) * MIB[unit] for _, size, unit in found)
        values |= {
            "seconds per training step": f"{seconds:.3g} (median of what the log shows)",
            "peak memory of the training": f"{memory:,.0f} MiB",
        }
    if run.checkpoint:
        values["checkpoint"] = f"{run.checkpoint.stat().st_size / 2**20:,.1f} MiB, with optimiser"
    return [Facts("Training", values)] if values else []


def _benchmark(file: Path) -> Table | None:
    """The table of a file of `densekit benchmark output=`; None for any other file."""
    from densekit.app.studies.benchmark.report import read_report

    try:
        report = read_report(file)
        columns, lines = report.columns, report.lines()
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return None
    about = f"{readable(report.title)}; {report.machine}. Measured by `{readable(report.command)}`."
    return Table("Time and memory by engine", ["", *columns], lines, about)
