"""`densekit check`: tests heads and other parts against every point of their contracts."""

from __future__ import annotations

from collections.abc import Sequence

from densekit.app.options.shared import TRUST
from densekit.app.options.table import Command
from densekit.app.studies.contract import KINDS, check_parts

COMMAND = Command(
    name="check",
    usage="GROUP=NAME [GROUP=NAME ...] [key=value ...]",
    about="""
Tests each part that is named against every point of its contract. One table per part says what
the contract asks and, where it is broken, what was found. The exit code is 1 if a point fails.
experiment=NAME tests all parts of an experiment.

Heads, backbones and necks are tested on small inputs with random weights. Of a data set, a few
images of every split are read, and its transforms are tested on them. With data=NAME, heads are
tested on images of that data set, else on synthetic ones. Metrics are given synthetic results or,
with head=NAME, the predictions of that head. From Python and in your tests: densekit.testing.
""",
    examples=(
        "check head=acme/polyp",
        "check backbone=timm backbone.name=convnext_atto",
        "check neck=fpn backbone=resnet50",
        "check data=bccd paths.data=FOLDER",
        "check metrics=coco",
        "check head=acme/polyp data=acme/polyps metrics=acme/counts",
    ),
    settings=(
        ("GROUP=NAME", "a file of a group, listed below"),
        ("KEY=VALUE", "any value of the configuration"),
        TRUST.row,
    ),
    overrides=True,
    groups=lambda: KINDS,
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code: 1 if a part breaks its contract."""
    return check_parts(arguments, KINDS)
