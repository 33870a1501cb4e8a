"""What the metrics say beyond their numbers, see `densekit.metrics.protocols.HasAnalyses`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from densekit.app.reports.blocks import Block, Note
from densekit.evaluation import Measured
from densekit.metrics.analyses import Analysis, Matrix
from densekit.metrics.detection.box_metric import BoxMetric
from densekit.metrics.protocols import HasAnalyses, HasConfusion

MOST_NAMES = 40
"""Rows of a matrix that is drawn: those with the most errors of more."""
logger = logging.getLogger(__name__)


def analyses(measured: Sequence[Measured]) -> list[Block]:
    """The analyses of the metrics of one head, and a confusion matrix where one is counted."""
    blocks: list[Block] = []
    titles: set[str] = set()
    explained: set[str] = set()
    for one in measured:
        if isinstance(one.metric, BoxMetric):
            if one.metric.shape in explained:
                continue  # it explains the same detections as the one before
            explained.add(one.metric.shape)
        try:
            found = _of(one)
        except Exception as error:  # of a plug-in: the rest of the report is worth having
            logger.warning("%s.%s: analyses: %s", one.head, one.name, error)
            blocks.append(Note(f"The analyses of {one.name} could not be computed: {error}"))
            continue
        for analysis in found:
            shown = _limited(analysis) if isinstance(analysis, Matrix) else analysis
            if shown.title in titles:
                shown = replace(shown, title=f"{shown.title} ({one.name})")
            titles.add(shown.title)
            blocks.append(shown)
    return blocks


def _of(one: Measured) -> list[Analysis]:
    found = list(one.metric.analyses()) if isinstance(one.metric, HasAnalyses) else []
    if isinstance(one.metric, HasConfusion) and not any(isinstance(a, Matrix) for a in found):
        names, counts = one.metric.names, one.metric.confusion().astype(np.float64)
        about = "True class by row, predicted class by column."
        found.append(Matrix("Confusion matrix", names, names, counts, about))
    return found


def _limited(matrix: Matrix) -> Matrix:
    """A square matrix without the rows and columns of least errors, where there are too many."""
    rows, columns = list(matrix.rows), list(matrix.columns)
    if max(len(rows), len(columns)) <= MOST_NAMES:
        return matrix
    counts = np.asarray(matrix.counts, dtype=np.float64)
    errors = counts.copy()
    common = {name: place for place, name in enumerate(columns)}
    for place, name in enumerate(rows):
        if name in common:
            errors[place, common[name]] = 0
    kept_rows = np.sort(np.argsort(-np.nan_to_num(errors).sum(axis=1), kind="stable")[:MOST_NAMES])
    kept = np.sort(np.argsort(-np.nan_to_num(errors).sum(axis=0), kind="stable")[:MOST_NAMES])
    about = (
        f"{matrix.about} Of {len(rows)} rows and {len(columns)} columns those with the most errors."
    )
    return Matrix(
        matrix.title,
        [rows[place] for place in kept_rows],
        [columns[place] for place in kept],
        counts[np.ix_(kept_rows, kept)],
        about.strip(),
    )
