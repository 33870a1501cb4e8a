"""`densekit plan`: analyses volumes with masks, or boxes, and proposes a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.app.errors import UsageError
from densekit.app.options.table import Command, Option, number, parse_command, text, whole

VOLUMES, IMAGES = 40, 400
"""Volumes and images that are inspected by default."""
COMMAND = Command(
    name="plan",
    usage="data=NAME [key=value ...]",
    about="""
Reads the training volumes of a data set as they are stored, prints their sizes, spacings,
intensities and class frequencies, and proposes an experiment file: spacing, intensity of each
channel, patch, batch, network, augmentation, epochs and sliding window. Of a data set of boxes it
prints the sizes of images and objects and how many of them no anchor or point of the head reaches,
and proposes resizing, levels, anchors, batch and epochs. The file begins with the command that
trains it. Edit it as needed; nothing is applied.
""",
    examples=(
        "plan data=hippocampus paths.data=FOLDER",
        "plan data=bccd head=retinanet paths.data=FOLDER",
        "plan data=mine paths.data=FOLDER memory=24 output=conf/experiment/mine_planned.yaml",
    ),
    options=(
        Option(
            "memory",
            number(at_least=0),
            8.0,
            "memory in GiB that a training step may take in float32",
        ),
        Option(
            "cases",
            whole(1),
            None,
            f"number of volumes ({VOLUMES}) or images ({IMAGES}) to inspect, spread evenly",
        ),
        Option(
            "output", text("FILE"), None, "new file to write the proposal to (default: print it)"
        ),
    ),
    settings=(
        ("data=NAME", "a file of the group data, listed below"),
        ("key=value", "any other key of the configuration, as for densekit train"),
    ),
    overrides=True,
    groups=lambda: ["data"],
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, rest = parse_command(COMMAND, arguments)
    file = None if options["output"] is None else Path(options["output"]).expanduser()
    if file is not None and file.exists():
        raise UsageError(f"output: expected a new file, got {file}, which exists")
    from densekit.app.config.overrides import parse
    from densekit.app.planning.kind import is_of_volumes

    given = parse(rest)
    if is_of_volumes(given):
        from densekit.app.planning.proposal import write_proposal

        write_proposal(given, options["memory"], options["cases"] or VOLUMES, file)
    else:
        from densekit.app.planning.boxes.proposal import write_box_proposal

        write_box_proposal(given, options["memory"], options["cases"] or IMAGES, file)
    return 0
