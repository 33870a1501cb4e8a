"""`densekit demo`: a local page that runs a checkpoint on what is dropped on it."""

from __future__ import annotations

import glob
from collections.abc import Sequence

from densekit._extras import check_installed
from densekit.app.options.shared import (
    CALIBRATION,
    CHECKPOINT,
    DEVICE,
    ENGINE,
    PRECISION,
    THRESHOLD,
    TRUST,
    checkpoint_file,
    existing,
)
from densekit.app.options.table import Command, Option, flag, parse_command, text, whole

COMMAND = Command(
    name="demo",
    usage="checkpoint=PATH [key=value ...]",
    about="""
Serves a page that runs a checkpoint, and prints its address. Drop an image, a series or a volume
(NIfTI, MetaImage, NRRD, or the DICOM files of a series) on it and see, depending on the heads:

  boxes               with their scores, from a threshold on that can be moved
  masks               in colour; of volumes slice by slice, along any axis
  categories          with their probabilities
  embeddings          the similarity to a second image, and the most similar images of gallery=
  anything else       such as the results of a plug-in's head, as values

The result can be downloaded as the files that densekit predict writes. Ctrl-C ends the command.

The page is for this machine alone: the server listens on 127.0.0.1, and connects to no other
machine. To use it from another one, forward the port: ssh -L 7860:127.0.0.1:7860 HOST. Uploads and
results are in a temporary folder, which is removed at the end. Needs densekit[demo].
""",
    examples=(
        "demo checkpoint=runs/NAME/TIMESTAMP",
        "demo checkpoint=PATH examples=photos engine=openvino",
        "demo checkpoint=faces.ckpt gallery=people",
        "demo checkpoint=PATH port=0 open=false",
    ),
    options=(
        CHECKPOINT,
        Option(
            "examples",
            text("PATH", "a folder, a file or a pattern"),
            None,
            "images, series or volumes that the page offers to try; the first 24 are",
        ),
        Option(
            "gallery",
            text("PATH", "a folder of images or a file of embeddings"),
            None,
            "images to search in by an embedding: a folder, or embeddings.npz or embeddings.parquet"
            " of densekit predict, of which the names alone are shown",
        ),
        THRESHOLD,
        Option("port", whole(0), 7860, "port of the server; 0 is any free one"),
        Option("open", flag(), False, "whether to open the page in the browser"),
        DEVICE,
        ENGINE,
        PRECISION,
        CALIBRATION,
        TRUST,
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command until it is stopped."""
    options, _ = parse_command(COMMAND, arguments)
    checkpoint = checkpoint_file(options["checkpoint"])
    for key in ("examples", "gallery"):
        if options[key] is not None and not glob.has_magic(options[key]):
            existing(key, options[key])
    check_installed("gradio", "densekit demo", "demo")
    from densekit.app.demo.start import demo

    demo(checkpoint, options)
    return 0
