"""A run beside a second one: differences with intervals, changed images, other settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from densekit.app.errors import UsageError
from densekit.app.reports.blocks import Block, Note, Picture
from densekit.app.reports.folder import Run
from densekit.app.reports.names import ImageNames, title
from densekit.app.reports.overlays import Overlays
from densekit.app.studies.comparison import Compared, compare, other_settings
from densekit.app.terminal import quoted
from densekit.evaluation import Evaluation
from densekit.metrics.analyses import Cell, Table

VERDICTS = {
    1: "the second run is better",
    0: "the two runs are not distinguishable",
    -1: "the second run is worse",
}
ABOUT = (
    "Second minus first by paired bootstrap: low and high are the ends of the 95 % interval of the"
    " difference, p is two-sided."
)


def comparison(first: Run, second: Run, resamples: int) -> list[Block]:
    """Verdicts, differences and changed images of the metrics that both runs have."""
    missing = [run for run in (first, second) if run.evaluation is None]
    if missing:
        return [_without_rows(run) for run in missing]
    assert first.evaluation is not None
    assert second.evaluation is not None
    try:
        compared = compare(first.evaluation, second.evaluation, resamples)
    except UsageError as error:
        return [Note(f"The runs cannot be compared: {error}")]
    blocks: list[Block] = []
    for one in compared:
        where = f"{title(one.first, first.evaluation.measured)}, {one.first.name}"
        blocks += [_verdict(one, where), _table(one, where)]
    return [*blocks, *_changed(compared, first.evaluation, second.evaluation)]


def settings(first: Run, second: Run) -> list[Block]:
    """The keys of the configuration in which two runs differ."""
    rows = [list(row) for row in other_settings(first.path, second.path)]
    if not rows:
        return [Note("The configurations do not differ.")]
    return [Table("Settings that differ", ["setting", "first", "second"], rows)]


def _without_rows(run: Run) -> Note:
    text = f"{run.name} has no evaluation file, so images and intervals cannot be compared."
    return Note(text, f"densekit eval {quoted(f'checkpoint={run.path}')} output=DIR")


def _verdict(one: Compared, where: str) -> Note:
    main = one.differences[0]
    ends = f"{main.change:+.4f}, from {main.low:+.4f} to {main.high:+.4f}"
    return Note(f"{where}: {VERDICTS[one.verdict]} by {main.name} ({ends}; p = {main.p:.3g}).")


def _table(one: Compared, where: str) -> Table:
    columns = ["metric", "first", "second", "difference", "low", "high", "p"]
    rows: list[list[Cell]] = [
        [d.name, d.first, d.second, d.change, d.low, d.high, d.p]
        for d in one.differences
        if not math.isnan(d.change)
    ]
    return Table(f"Differences: {where}", columns, rows, ABOUT)


def _changed(compared: Sequence[Compared], first: Evaluation, second: Evaluation) -> list[Block]:
    """One gallery per head: both predictions of each image that changed most."""
    blocks: list[Block] = []
    done = set[tuple[str, str]]()
    for one in compared:
        key = (one.first.data, one.first.head)
        if key in done or not one.images:
            continue
        done.add(key)
        of = [
            Overlays.of(e, [m for m in e.measured if (m.data, m.head) == key])
            for e in (first, second)
        ]
        names = ImageNames(first.paths.get(key[0], {}))
        pictures = []
        for image in one.images:
            views = [
                o.view(image.image_id, t) for o, t in zip(of, ("first", "second"), strict=True)
            ]
            values = f"{one.column} {image.first:.3g} → {image.second:.3g}"
            name = names.of(image.image_id, views[0].image.slice)
            pictures.append(Picture(views, name, [values]))
        about = f"By {one.column} of single images, the largest change first."
        where = title(one.first, first.measured)
        blocks.append(of[0].gallery(f"Images that changed most: {where}", about, pictures))
    return blocks
