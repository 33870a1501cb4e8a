"""`densekit doctor`: finds what is wrong with a data set, file by file."""

from __future__ import annotations

import os
from collections.abc import Sequence

from densekit._names import unknown
from densekit.app.errors import UsageError
from densekit.app.options.shared import DEVICE, TRUST
from densekit.app.options.table import Command, Option, choice, names, parse_command, text, whole

COMMAND = Command(
    name="doctor",
    usage="data=NAME [key=value ...]",
    about="""
Opens every file of a data set once and reports what is wrong or unusual, by file name and count:
broken and repeated images, boxes outside, in another layout or too small, classes that are
unused or missing in train, masks with unknown values, volumes of mixed geometry, and more. The
data are never written to; fix=DIR writes a repaired copy. The exit code is 1 if an error was
found. What files hold is remembered in the user's cache: an interrupted examination goes on where
it stopped.
""",
    examples=(
        "doctor data=coco_folder paths.data=FOLDER",
        "doctor data=mine paths.data=FOLDER ignore=[crowd,box-thin] output=report",
        "doctor data=mine paths.data=FOLDER checkpoint=runs/train/TIMESTAMP output=report",
        "doctor data=mine paths.data=FOLDER fix=FIXED",
    ),
    options=(
        Option("output", text("DIR"), None, "folder for doctor.json and doctor.html"),
        Option("ignore", names("CHECK"), (), "checks to leave out"),
        Option(
            "checkpoint",
            text("PATH", "a checkpoint, a run folder or a published model"),
            None,
            "a model of these data: where it is sure of something else than the label is a note",
        ),
        DEVICE,
        Option(
            "fix",
            text("DIR"),
            None,
            "new folder for a repaired copy, to be read with paths.data=DIR; the source stays",
        ),
        Option(
            "fail_on",
            choice("error", "warning", "note"),
            "error",
            "the least severe kind of finding that makes the exit code 1",
        ),
        Option(
            "workers",
            whole(0),
            min(8, os.cpu_count() or 1),
            "processes that read files; with 0, a file that ends its process ends the command",
        ),
    ),
    settings=(
        ("data=NAME", "a file of the group data, listed below"),
        ("key=value", "any other key of the configuration, as for densekit train"),
        TRUST.row,
    ),
    overrides=True,
    groups=lambda: ["data"],
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if something as severe as `fail_on` was found."""
    options, rest = parse_command(COMMAND, arguments)
    from densekit.app.doctor.checks.table import CHECKS

    for name in options["ignore"]:
        if name not in CHECKS:
            raise UsageError(unknown("ignore", name, CHECKS))
    if not any(word.startswith(("data=", "experiment=")) for word in rest):
        raise UsageError("data: expected a data set, got nothing; densekit doctor data=NAME")
    from densekit.app.config.overrides import parse
    from densekit.app.doctor.run import doctor

    return doctor(parse(rest), options)
