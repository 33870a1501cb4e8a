"""All sections of a report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from densekit.app.reports.analyses import analyses
from densekit.app.reports.blocks import Block, Facts, Note, Section
from densekit.app.reports.classes import class_table
from densekit.app.reports.cost import cost
from densekit.app.reports.curves import training_curves
from densekit.app.reports.data import data_summary
from densekit.app.reports.differences import comparison, settings
from densekit.app.reports.environment import environment, files
from densekit.app.reports.explanations import explanations
from densekit.app.reports.folder import Run
from densekit.app.reports.headline import headline
from densekit.app.reports.names import title
from densekit.app.reports.pairs import hardest_pairs
from densekit.app.reports.suspects import label_errors
from densekit.app.reports.worst import IMAGES_BY, worst_images
from densekit.app.run.record import RECORD
from densekit.app.terminal import quoted
from densekit.evaluation import Evaluation, Measured
from densekit.metrics.analyses import Bars, Curves, Matrix, Table

Maker = Callable[[Run], Sequence[Block]]
DRAWN = (Table, Curves, Bars, Matrix, Facts)
"""Blocks that stand beside those of a second run."""


def sections(run: Run, other: Run | None, resamples: int) -> list[Section]:
    """What a report of a run shows, and of a second one beside it.

    Args:
        run: The run.
        other: The second run, if there is one.
        resamples: Draws of the images for the differences of the two.
    """
    parts = [Section("Summary", [*_missing(run), *headline(run)])]
    if other is not None:
        parts.append(Section("Comparison", comparison(run, other, resamples)))
    parts.append(Section("Training", _of_both(training_curves, run, other)))
    parts += _of_heads(run, other)
    parts.append(Section("Explanations", explanations(run)))
    parts.append(Section("Data", _recorded(data_summary, run)))
    parts.append(Section("Cost", _of_both(cost, run, other)))
    parts.append(Section("Environment", _of_both(environment, run, other)))
    configured = files(run)
    if other is not None:
        configured = [*settings(run, other), *configured]
    return [*parts, Section("Configuration", configured)]


def _of_both(make: Maker, run: Run, other: Run | None) -> Sequence[Block]:
    blocks = _recorded(make, run)
    return blocks if other is None else _paired(blocks, _recorded(make, other))


def _recorded(make: Maker, run: Run) -> Sequence[Block]:
    """Blocks of what a run has recorded; a note if somebody has changed that."""
    try:
        return make(run)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return [Note(f"{RECORD} of {run.name}: expected what a run records, got {error!r}")]


def _missing(run: Run) -> list[Block]:
    """What is not there, and which command makes it."""
    notes: list[Block] = []
    if run.evaluation is None:
        where = f"{quoted(f'checkpoint={run.path}')} output=DIR"
        text = (
            "The folder has no evaluation_test.npz or evaluation_val.npz: no table of classes, no"
            " images and no analyses."
            if run.metrics
            else "Nothing has been evaluated yet: no metrics, no images and no analyses."
        )
        notes.append(Note(text, f"densekit eval {where}" if run.checkpoint else ""))
    if run.is_training and run.checkpoint is None:
        notes.append(Note("The run has no checkpoint."))
    if run.stopped.startswith("SIG"):
        command = f"densekit train {quoted(f'resume={run.path}')}" if run.checkpoint else ""
        notes.append(Note(f"The training was stopped by {run.stopped}.", command))
    if run.is_training and not run.stopped:
        notes.append(Note("The training has not ended: numbers are those of its last validation."))
    return notes


def _of_heads(run: Run, other: Run | None) -> Iterator[Section]:
    """One section per head and data set."""
    if run.evaluation is None:
        return
    for measured in _by_head(run.evaluation):
        beside = _same_head(other, measured[0])
        blocks: list[Block] = []
        if table := class_table(run, measured):
            blocks.append(table)
        own = analyses(measured)
        blocks += _without_twin(worst_images(run.evaluation, measured), own)
        blocks += hardest_pairs(run.evaluation, measured)
        blocks += _paired(own, analyses(beside))
        blocks += label_errors(run.evaluation, measured)
        name = title(measured[0], run.evaluation.measured)
        yield Section(f"{name} ({run.evaluation.stage})", blocks)


def _without_twin(blocks: Sequence[Block], own: Sequence[Block]) -> list[Block]:
    """The blocks without a distribution that the metric draws itself, as `mIoU of all classes`."""
    drawn = [one.title for one in own if isinstance(one, Bars)]
    return [
        block
        for block in blocks
        if not isinstance(block, Bars)
        or not any(title.startswith(block.title.removeprefix(IMAGES_BY)) for title in drawn)
    ]


def _by_head(evaluation: Evaluation) -> list[list[Measured]]:
    groups: dict[tuple[str, str], list[Measured]] = {}
    for one in evaluation.measured:
        groups.setdefault((one.data, one.head), []).append(one)
    return list(groups.values())


def _same_head(other: Run | None, one: Measured) -> list[Measured]:
    if other is None or other.evaluation is None:
        return []
    return [m for m in other.evaluation.measured if (m.data, m.head) == (one.data, one.head)]


def _paired(first: Sequence[Block], second: Sequence[Block]) -> list[Block]:
    """The blocks of two runs, those of one title beside each other."""
    beside = {one.title: one for one in second if isinstance(one, DRAWN)}
    blocks: list[Block] = []
    for block in first:
        other = beside.pop(block.title, None) if isinstance(block, DRAWN) else None
        if other is None or not isinstance(block, DRAWN):
            blocks.append(block)
            continue
        blocks.append(replace(block, title=f"{block.title}: first"))
        blocks.append(replace(other, title=f"{block.title}: second"))
    return [*blocks, *(replace(one, title=f"{one.title}: second") for one in beside.values())]
