"""`densekit check-head`: tests a head against every point of the contract."""

from __future__ import annotations

from collections.abc import Sequence

from densekit.app.options.shared import TRUST
from densekit.app.options.table import Command
from densekit.app.studies.contract import check_parts

COMMAND = Command(
    name="check-head",
    usage="head=NAME [data=NAME] [key=value ...]",
    about="""
The short form of densekit check for heads.

Builds a small model with the head and tests every point of the contract: images with no object, one
and 500 objects, images in which everything is ignored, odd sizes, one and four channels, bfloat16,
compile, export, two processes and more. It prints a table and takes about half a minute. The exit
code is 1 if a point fails. From Python and in your tests: densekit.testing.check_head.

The images are synthetic, with boxes, masks, classes and identities. A head with targets of its own
is tested on the first images of a data set: data=NAME.
""",
    examples=(
        "check-head head=acme/polyp",
        "check-head head=unet heads.segmentation.depth=4",
        "check-head '~head' '+heads.mine._target_=my_head.MyHead' 'trust=[my_head]'",
        "check-head head=faster_rcnn data=bccd paths.data=FOLDER",
    ),
    settings=(
        ("head=NAME", "a file of the group head, listed below"),
        ("data=NAME", "a file of the group data, whose training images are used"),
        ("heads.NAME.KEY=VALUE", "an argument of the head"),
        ("backbone.output_stride=N", "the output stride that the head is tested with"),
        TRUST.row,
    ),
    overrides=True,
    groups=lambda: ["head"],
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code: 1 if a head breaks the contract."""
    return check_parts(arguments, ["head"])
