"""`densekit study`: trains the networks of a study from one configuration and answers its question.

The only study asks what shortcuts contribute, see `densekit.app.studies.degradation`.
"""

from __future__ import annotations

from collections.abc import Sequence

from densekit._names import unknown
from densekit.app.errors import UsageError
from densekit.app.options.table import Command, Option, parse_command, text, whole

STUDIES = ("degradation",)
GRID = {"backbone.depth": "8,20,44", "backbone.residual": "false,true", "seed": "0,1,2"}
"""Keys that vary between the runs, and their values unless the command line sets others."""
COMMAND = Command(
    name="study",
    usage="degradation [key=value ...]",
    about="""
Trains plain and residual networks of several depths from experiment=degradation, each run in a
process of its own, and plots training and test error, gradient norms of the layers, and how far the
signal of an image travels before training. The conclusion is computed: does the deepest plain
network have a higher training error than the shallowest one, and the deepest residual network not,
by more than two standard errors over the seeds?

Everything goes into one new folder, runs/degradation/TIMESTAMP: one run folder per network, and
degradation.md, .csv, .json and .png. With output= of an earlier study, its finished runs are kept
and the missing ones are trained. The exit code is 1 if a run failed, whatever the conclusion.
""",
    examples=(
        "study degradation",
        "study degradation backbone.depth=8,32 seed=0,1 trainer.max_epochs=5",
        "study degradation output=runs/degradation/TIMESTAMP optimizer.lr=0.05",
    ),
    options=(
        Option(
            "output", text("DIR"), None, "folder of the study (default: runs/degradation/TIMESTAMP)"
        ),
        Option("jobs", whole(1), None, "runs at a time (default: one per CPU core)"),
    ),
    settings=(
        *((f"{key}=VALUES", f"values to combine (default: {GRID[key]})") for key in GRID),
        ("experiment=NAME", "an experiment of your own instead of degradation"),
        ("key=value", "any other key of the configuration, as for densekit train"),
    ),
    overrides=True,
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if a run failed."""
    if not arguments or arguments[0] not in STUDIES:
        given = arguments[0] if arguments else ""
        raise UsageError(unknown("densekit study", given, STUDIES))
    options, args = parse_command(COMMAND, arguments[1:])
    from densekit.app.studies.runs import run_study

    return run_study(arguments[0], GRID, args, options["output"], options["jobs"])
