"""Annotations that are probably wrong, each with its surroundings."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from densekit.app.reports.blocks import Block, Box, Note, Picture
from densekit.app.reports.names import ImageNames
from densekit.app.reports.overlays import Overlays
from densekit.app.reports.worst import MOST
from densekit.evaluation import Evaluation, Measured
from densekit.metrics.analyses import Suspect
from densekit.metrics.protocols import HasSuspects

AROUND = 1.5
"""Margin around a box, relative to its longer side."""
LEAST_MARGIN = 24.0
ABOUT = (
    "Confident predictions that disagree with the annotation, the surest first: look whether the"
    " annotation is wrong before you blame the model."
)
logger = logging.getLogger(__name__)


def label_errors(evaluation: Evaluation, measured: Sequence[Measured]) -> list[Block]:
    """A gallery of the suspects of every metric of a head that names some."""
    found: list[Suspect] = []
    for one in measured:
        if isinstance(one.metric, HasSuspects):
            try:
                found += one.metric.suspects()
            except Exception as error:  # of a plug-in: the rest of the report is worth having
                logger.warning("%s.%s: suspects: %s", one.head, one.name, error)
                return [Note(f"Suspects of {one.name} could not be computed: {error}")]
    if not found:
        return []
    unique = {(suspect.image_id, suspect.box): suspect for suspect in reversed(found)}
    ranked = sorted(unique.values(), key=lambda suspect: -suspect.confidence)
    overlays = Overlays.of(evaluation, measured)
    names = ImageNames(evaluation.paths.get(measured[0].data, {}))
    pictures = [_picture(overlays, names, suspect) for suspect in ranked[:MOST]]
    return [overlays.gallery("Annotations to look at", ABOUT, pictures)]


def _picture(overlays: Overlays, names: ImageNames, one: Suspect) -> Picture:
    view = overlays.view(one.image_id, region=_around(one.box), marked=one.box)
    name = names.of(one.image_id, view.image.slice)
    return Picture([view], name, [one.reason, f"confidence {one.confidence:.3f}"])


def _around(box: Box | None) -> Box | None:
    if box is None:
        return None
    x1, y1, x2, y2 = box
    margin = max(AROUND * max(x2 - x1, y2 - y1), LEAST_MARGIN)
    return x1 - margin, y1 - margin, x2 + margin, y2 + margin
