"""`densekit download`: fetches public data sets in the layout that `data=NAME` reads."""

from __future__ import annotations

import os
from collections.abc import Sequence

from densekit._console import print_whole
from densekit._names import unknown
from densekit.app.downloads.sets import SETS, DataSet
from densekit.app.errors import UsageError
from densekit.app.options.shared import output_folder
from densekit.app.options.table import Command, Option, flag, parse_command, text
from densekit.app.terminal import print_lines, quoted

COMMAND = Command(
    name="download",
    usage="[NAME ...] [output=FOLDER] [keep=true]",
    about="""
Downloads data sets from their official places, verifies and unpacks them, and prints the command
that trains on them. Interrupted downloads continue where they stopped. No file that is there is
overwritten: one with other content than the archive's stops the command. Without names it lists
the data sets.

Hashes are verified where one is published; otherwise the hash of the first download is recorded,
and later downloads must have the same. Data sets that need a registration are not downloaded: the
command says where to get them and where to put them.
""",
    examples=(
        "download",
        "download coco output=FOLDER",
        "download voc sbd output=FOLDER",
    ),
    options=(
        Option(
            "output",
            text("FOLDER"),
            None,
            "folder of the data sets, paths.data of a run (default: $DENSEKIT_DATA, or data)",
        ),
        Option("keep", flag(), False, "keep the archives after unpacking, in FOLDER/.download"),
    ),
    words=("[NAME ...]",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, names = parse_command(COMMAND, arguments)
    if not names:
        _print_table()
        return 0
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in SETS:
            raise UsageError(unknown("NAME", name, SETS))
    from densekit.app.downloads.fetch import check_open, fetch

    output = output_folder(options["output"] or os.environ.get("DENSEKIT_DATA") or "data")
    check_open(names, SETS, output)
    for name in names:
        fetch(name, SETS[name], output, keep=options["keep"])
    for name in names:
        where = quoted(f"paths.data={output}")
        print_lines(f"{name}: densekit train {SETS[name].then} {where}")
    return 0


def _print_table() -> None:
    from rich.table import Table

    from densekit._console import plain

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("name", "download", "about", "terms"):
        table.add_column(column)
    for name, data in SETS.items():
        cells = (name, _size(data), data.about, data.terms)
        table.add_row(*map(plain, cells))
    print_whole(table)


def _size(data: DataSet) -> str:
    """What is downloaded, roughly."""
    count = sum(archive.bytes_to_come for archive in data.archives)
    if not data.archives:
        return "by hand"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
