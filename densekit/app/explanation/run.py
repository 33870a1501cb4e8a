"""One run of `densekit explain`: reads images, explains them, and writes the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._malloc import kept_memory
from densekit._names import counted, readable
from densekit.app.errors import UsageError
from densekit.app.explanation.files import Row, write_tables
from densekit.app.explanation.passes import Passes
from densekit.app.explanation.summary import gains, weights_verdict
from densekit.app.explanation.work import Work
from densekit.app.options.shared import claimed, device_name, output_folder
from densekit.app.prediction.found import relative_paths
from densekit.app.prediction.run import predictor_of
from densekit.app.prediction.sources import find_cases, overlay_names, volume_names
from densekit.app.terminal import number_text, print_lines, print_numbers
from densekit.explain import Explainer, Settings
from densekit.explain.choosing import check_wanted, described

SHOWN = 20
"""Most rows of the table on the terminal."""


def explain(checkpoint: Path, options: Mapping[str, Any]) -> int:
    """Explains every image and prints the summary; returns 1 if an image could not be read.

    Args:
        checkpoint: The model.
        options: Values of the options of `densekit explain`.

    Raises:
        UsageError: A value is wrong, or there is nothing to explain.
    """
    device = device_name(options["device"])
    folder = _folder(checkpoint, options["output"])
    predictor = predictor_of(checkpoint, device, {**options, "threshold": None})
    head, method, size = options["head"], options["method"], options["batch_size"]
    passes = Passes()
    explainer = Explainer(predictor, head, method, _settings(options), size, passes.advance)
    for wanted in options["target"]:
        check_wanted(wanted, described(predictor.model, explainer.head))
    cases, root = find_cases(options["source"], (), predictor.frames)
    files = [case[0] for case in cases]
    is_3d = predictor.frames.dims == 3
    names = volume_names(cases, root) if is_3d else overlay_names(files, root)
    output = output_folder(folder)
    pair = options["pair"] and Path(options["pair"]).expanduser()
    with claimed(output), kept_memory(device), passes.shown():
        work = Work(explainer, options["target"], pair, output, passes, len(cases))
        try:
            for case, shown, name in zip(cases, relative_paths(files, root), names, strict=True):
                work.add(case, readable(shown), name.with_suffix(""))
        finally:
            if work.rows:  # also what was done before an interrupt
                settings = {**_written(options), "checkpoint": str(checkpoint)}
                write_tables(output, explainer.head, work.rows, settings)
    if not work.rows:
        raise UsageError("\n".join(work.broken + work.empty))
    _print(work.rows)
    print_lines(f"{counted(len(work.rows), 'map')}: {output}", *work.empty)
    if work.broken:
        print_lines(f"{counted(len(work.broken), 'image')} could not be read:", *work.broken)
    return 1 if work.broken else 0


def _folder(checkpoint: Path, chosen: str | None) -> str:
    """The output folder; by default that of the checkpoint's run.

    Raises:
        UsageError: None is given, and the checkpoint does not lie in a run folder.
    """
    if chosen is not None:
        return chosen
    run = checkpoint.parent.parent
    if checkpoint.parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        raise UsageError(
            f"output: expected a folder, as {checkpoint} lies in no run folder, got none"
        )
    return str(run / "explanations")


def _settings(options: Mapping[str, Any]) -> Settings:
    names = ("masks", "grid", "steps", "levels", "faithfulness", "seed")
    return Settings(**{name: options[name] for name in names}, check=options["check_weights"])


def _written(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the maps depend on."""
    left_out = ("output", "device", "trust", "batch_size", "calibration", "checkpoint")
    return {name: value for name, value in options.items() if name not in left_out}


def _print(rows: Sequence[Row]) -> None:
    """Prints one row per map, the gain over random maps and the check of the weights."""
    columns = ["image", "target", "method", "score", "deletion", "random", "insertion", "random"]
    columns += ["random weights"]
    print_numbers(columns, [_cells(row) for row in rows[:SHOWN]], "Explanations")
    if len(rows) > SHOWN:
        print_lines(f"and {len(rows) - SHOWN} more in explanations.csv")
    found = [row.explanation for row in rows]
    measured = gains([row.image for row in rows], found)
    if measured:
        lines = [
            [
                *(one.measure, f"{one.maps:.4f}", f"{one.random:.4f}", f"{one.gain:+.4f}"),
                *("" if math.isnan(end) else f"{end:+.4f}" for end in one.ends),
            ]
            for one in measured
        ]
        columns = ["faithfulness", "map", "random map", "better by", "low", "high"]
        print_numbers(columns, lines)
        print_lines(*(f"{one.measure}: {one.words}" for one in measured))
    if (verdict := weights_verdict(found)) is not None:
        print_lines(f"random weights: {verdict[2]}")


def _cells(row: Row) -> list[str]:
    one = row.explanation
    numbers: list[float | None] = [one.score]
    if one.measured is None or one.random is None:
        numbers += [None] * 4
    else:
        numbers += [one.measured.deletion, one.random.deletion]
        numbers += [one.measured.insertion, one.random.insertion]
    cells = [number_text(value) for value in (*numbers, one.correlation)]
    return [row.image, one.target, one.method, *cells]
