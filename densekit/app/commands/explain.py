"""`densekit explain`: which pixels made a prediction, and whether that can be believed."""

from __future__ import annotations

import glob
from collections.abc import Sequence

from densekit._extras import check_installed
from densekit.app.errors import UsageError
from densekit.app.options.shared import (
    CALIBRATION,
    CHECKPOINT,
    DEVICE,
    ENGINE,
    PRECISION,
    TRUST,
    checkpoint_file,
    existing,
)
from densekit.app.options.table import (
    Command,
    Option,
    choice,
    flag,
    names,
    parse_command,
    text,
    whole,
)

METHODS = ("auto", "gradcam", "layercam", "integrated_gradients", "rise")

COMMAND = Command(
    name="explain",
    usage="checkpoint=PATH source=PATH [key=value ...]",
    about="""
Shows which pixels made a prediction: the class of an image, one box of a detector, one class of a
segmentation, or the similarity of two images. Measures how faithful each map is, by deleting and
inserting its most salient pixels, against a random map of the same smoothness; and whether the map
depends on the weights, by comparing it with that of the model with random weights.

  gradcam               class activation map of the deepest level; of a segmentation Seg-Grad-CAM
  layercam              the same position by position; of a box over all levels of the pyramid
  integrated_gradients  gradients from the mean image to the image, not for boxes
  rise                  random masks, any engine, images alone; of a box D-RISE
  auto                  rise for boxes, gradcam otherwise; rise where there are no gradients

The output folder receives explanations.csv, one row per map, explanations.json with the summary,
pictures/NAME_N.png and maps/NAME_N.npy (float32, of the size of the image or volume). For a run it
is RUN/explanations.

Volumes take the gradient methods, if they fit into the network as a whole; their picture is the
slice with the most saliency, of those that hold the class. A network that predicts volumes slice
by slice is refused.
""",
    examples=(
        "explain checkpoint=runs/NAME/TIMESTAMP source=photos",
        "explain checkpoint=PATH source=cells.jpg target=[RBC,WBC] masks=2000 grid=16 output=out",
        "explain checkpoint=PATH source=street.png target=car method=layercam output=out",
        "explain checkpoint=PATH source=one.png pair=two.png output=out    # faces",
        "explain checkpoint=PATH source=photos method=rise engine=openvino output=out",
    ),
    options=(
        CHECKPOINT,
        Option(
            "source",
            text("PATH", "a folder, a file or a pattern"),
            None,
            "a folder (searched recursively), a file, or a pattern such as 'in/**/*.jpg'",
            required=True,
        ),
        Option(
            "pair",
            text("PATH", "an image"),
            None,
            "for embeddings: the image that every image of the source is compared with; both are"
            " explained",
        ),
        Option("head", text("NAME"), None, "the head to explain, if the model has several"),
        Option("method", choice(*METHODS), "auto", "how the maps are computed"),
        Option(
            "target",
            names("auto|CLASS|K"),
            ("auto",),
            "what to explain in each image: a class, the K-th best object or class of the"
            " prediction (from 1), or auto for the best",
        ),
        Option(
            "output",
            text("DIR", "a folder"),
            None,
            "folder for the results (default: RUN/explanations for a checkpoint of a run)",
        ),
        Option("masks", whole(2), 500, "random masks of rise; more are less noisy"),
        Option("grid", whole(1), 8, "cells along each side of such a mask; more for small objects"),
        Option(
            "levels", names("LEVEL"), (), "levels of gradcam and layercam, such as [c4] or [p3,p4]"
        ),
        Option(
            "steps",
            whole(1),
            16,
            "steps of each deletion and insertion curve, and of integrated_gradients",
        ),
        Option("faithfulness", flag(), True, "whether to measure deletion and insertion"),
        Option("check_weights", flag(), True, "whether to compare with random weights"),
        Option("batch_size", whole(1), 4, "images per forward pass"),
        Option("seed", whole(0), 0, "of masks, random maps and random weights"),
        DEVICE,
        ENGINE,
        PRECISION,
        CALIBRATION,
        TRUST,
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if an image could not be read."""
    options, _ = parse_command(COMMAND, arguments)
    for package in ("captum", "xaitk_saliency"):
        check_installed(package, "densekit explain", "explain")
    if not glob.has_magic(options["source"]):
        existing("source", options["source"])
    if options["pair"] is not None and not existing("pair", options["pair"]).is_file():
        raise UsageError(f"pair: expected one image, got the folder {options['pair']}")
    checkpoint = checkpoint_file(options["checkpoint"])
    from densekit.app.explanation.run import explain

    return explain(checkpoint, options)
