"""`densekit init`: recognises the data in a folder and writes a configuration for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.app.options.shared import existing
from densekit.app.options.table import Command, Option, flag, parse_command, text

COMMAND = Command(
    name="init",
    usage="SOURCE [name=NAME] [key=value ...]",
    about="""
Looks at a folder (or at the file that describes the data), recognises what lies there, prints its
splits, classes and problems, and writes conf/data/NAME.yaml, a file to be edited, with the command
that trains on it. It recognises

  boxes               COCO JSON, VOC XML, YOLO txt
  masks               two folders, a suffix such as _mask, lists of pairs, one file per object,
                      SegmentationClass of VOC, outlines of COCO and YOLO; values, palettes, colours
  volumes             dataset.json of MSD and nnU-Net, folders of images and masks
  classes             one folder per class, with or without train, val and test; a table of images
  others              one folder per person, series (.ts), tables of DNA sequences

The folder itself is never written to. Annotations are read whole; of large data sets a sample of
the images is opened.
""",
    examples=(
        "init photos",
        "init photos name=street format=yolo",
        "init annotations/instances.json",
    ),
    options=(
        Option("name", text("NAME"), None, "name of the data set (default: that of the folder)"),
        Option("output", text("DIR"), "conf/data", "folder of the file"),
        Option(
            "format", text("FORMAT"), None, "the format, if the folder can be read in several ways"
        ),
        Option("overwrite", flag(), False, "whether an existing file is replaced"),
    ),
    words=("SOURCE",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if the data have to be mended before they can be read."""
    options, words = parse_command(COMMAND, arguments)
    source = existing("source", words[0])
    from densekit.app.recognition.initialise import initialise

    output = Path(options["output"]).expanduser()
    return initialise(source, options["name"], output, options["format"], options["overwrite"])
