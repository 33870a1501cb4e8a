"""`densekit compare`: is the second of two evaluations better, and in which images?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UnmetError, UsageError
from densekit.app.options.shared import TRUST, existing
from densekit.app.options.table import Command, Option, choice, parse_command, text, whole
from densekit.app.terminal import print_lines, print_numbers

if TYPE_CHECKING:
    from densekit.app.studies.comparison import Compared
    from densekit.evaluation import Evaluation

COMMAND = Command(
    name="compare",
    usage="""
FIRST SECOND [key=value ...]
FIRST SECOND annotations=FILE [key=value ...]
""".strip(),
    about="""
Compares two run folders of `densekit train` or `densekit eval`, two of their files
evaluation_test.npz, or two files of COCO boxes. Prints every metric with the difference, the ends
of its 95 % interval and its p-value by paired bootstrap, the images that changed most, and the
settings that differ. Both must be evaluations of the same images; no model is run.
""",
    examples=(
        "compare runs/quickstart/FIRST runs/quickstart/SECOND",
        "compare runs/quickstart/FIRST runs/quickstart/SECOND require=better",
        "compare a/evaluation_val.npz b/evaluation_val.npz output=comparison.json",
        "compare first.json second.json annotations=instances_val2017.json",
    ),
    options=(
        Option("split", choice("test", "val"), None, "split (default: test if there is one)"),
        Option("annotations", text("FILE", "a JSON file"), None, "COCO annotations of results"),
        Option("resamples", whole(1), 1000, "number of draws of the images"),
        Option(
            "require",
            choice("better", "not_worse"),
            None,
            "end with exit code 1 unless the main metric of each head is distinguishably better, or"
            " not distinguishably worse",
        ),
        Option("output", text("FILE", "a JSON file"), None, "also write the comparison here"),
        TRUST,
    ),
    words=("FIRST", "SECOND"),
)
VERDICTS = {1: "the second is better", 0: "not distinguishable", -1: "the second is worse"}


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, words = parse_command(COMMAND, arguments)
    places = [existing(name, word) for name, word in zip(COMMAND.words, words, strict=True)]
    from densekit.app.studies.comparison import compare, other_settings

    first, second = (_evaluation(place, options) for place in places)
    compared = compare(first, second, options["resamples"])
    settings = other_settings(*(place if place.is_dir() else place.parent for place in places))
    for one in compared:
        _print(one)
    if settings:
        print_numbers(["setting", "first", "second"], [list(row) for row in settings], "Settings")
    if options["output"]:
        _write(Path(options["output"]), first.stage, compared, settings)
    _check(options["require"], compared)
    return 0


def _evaluation(place: Path, options: dict[str, Any]) -> Evaluation:
    from densekit.app.run.result_files import evaluation_of_results
    from densekit.app.studies.comparison import evaluation_of

    annotations = options["annotations"]
    if place.suffix != ".json":
        return evaluation_of(place, options["split"], options["trust"])
    if annotations is None:
        raise UsageError(f"annotations: expected the ground truth of {place}, got none")
    return evaluation_of_results(place, existing("annotations", annotations))


def _print(one: Compared) -> None:
    columns = ["metric", "first", "second", "difference", "low", "high", "p"]
    rows = [
        [
            *(d.name, f"{d.first:.4f}", f"{d.second:.4f}", f"{d.change:+.4f}"),
            *(f"{d.low:+.4f}", f"{d.high:+.4f}", f"{d.p:.3g}"),
        ]
        for d in one.differences
        if not math.isnan(d.change)
    ]
    print_numbers(columns, rows, f"{one.first.data}, {one.first.head}, {one.first.name}")
    print_lines(f"{one.differences[0].name}: {VERDICTS[one.verdict]}")
    if one.images:
        rows = [
            [image.path, *(f"{v:.4f}" for v in (image.first, image.second)), f"{image.change:+.4f}"]
            for image in one.images
        ]
        title = f"Images that changed most, by {one.column}"
        print_numbers(["image", "first", "second", "difference"], rows, title)


def _check(required: str | None, compared: Sequence[Compared]) -> None:
    """Raises UnmetError for the metrics that are not as required."""
    if required is None:
        return
    least = {"better": 1, "not_worse": 0}[required]
    lines = []
    for one in compared:
        if one.verdict < least:
            main = one.differences[0]
            lines.append(
                f"{one.first.head}: {main.name}: expected {required.replace('_', ' ')}, got a"
                f" difference of {main.change:+.4f} ({main.low:+.4f} to {main.high:+.4f})"
            )
    if lines:
        raise UnmetError("\n".join(lines))


def _write(
    file: Path, stage: str, compared: Sequence[Compared], settings: Sequence[tuple[str, str, str]]
) -> None:
    from densekit._files import write_json

    metrics = [
        {
            **{"data": one.first.data, "head": one.first.head, "metric": one.first.name},
            "differences": [asdict(difference) for difference in one.differences],
            "image_metric": one.column,
            "images": [{"path": i.path, "first": i.first, "second": i.second} for i in one.images],
        }
        for one in compared
    ]
    differing = {key: [a, b] for key, a, b in settings}
    write_json(file, {"split": stage, "metrics": metrics, "settings": differing})
    print_lines(f"comparison: {file}")
