"""`densekit report`: a run as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.app.options.shared import TRUST, existing
from densekit.app.options.table import Command, Option, choice, parse_command, text, whole
from densekit.app.terminal import print_lines

COMMAND = Command(
    name="report",
    usage="RUN [RUN2] [key=value ...]",
    about="""
Writes one HTML page about a run folder of `densekit train` or an output folder of `densekit eval`:
metrics with intervals, training curves, a table of the classes, the worst images with what is
annotated and predicted in them, what the metrics say of the errors, data, cost, environment and
configuration. With a second run also the differences of the two and the images that changed most.
The page holds everything it shows, in less than 5 MB, and asks for nothing else. No model is run.
""",
    examples=(
        "report runs/quickstart/TIMESTAMP",
        "report runs/quickstart/FIRST runs/quickstart/SECOND output=comparison.html",
        "report runs/eval/TIMESTAMP split=val",
    ),
    options=(
        Option("output", text("FILE", "an HTML file"), None, "the page (default: RUN/report.html)"),
        Option("split", choice("test", "val"), None, "split (default: test if there is one)"),
        Option("resamples", whole(1), 1000, "number of draws of the images for differences"),
        TRUST,
    ),
    words=("RUN", "[RUN2]"),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, words = parse_command(COMMAND, arguments)
    places = [existing(name, word) for name, word in zip(("RUN", "RUN2"), words, strict=False)]
    from densekit.app.reports.run import report

    output = None if options["output"] is None else Path(options["output"]).expanduser()
    file = report(
        places, output, options["split"], resamples=options["resamples"], trust=options["trust"]
    )
    print_lines(f"report: {file} ({file.stat().st_size / 1e6:.1f} MB)")
    return 0
