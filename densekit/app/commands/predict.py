"""`densekit predict`: runs a checkpoint on files and writes the results."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from typing import Any

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
from densekit.app.options.table import (
    Command,
    Option,
    choice,
    flag,
    names,
    parse_command,
    text,
)
from densekit.app.results.embeddings import FORMATS, check_installed

COMMAND = Command(
    name="predict",
    usage="checkpoint=PATH source=PATH output=DIR [key=value ...]",
    about="""
Runs a checkpoint on new images, volumes, series or sequences, the way it was validated, including
sliding window, test-time augmentation and clean-up. The output folder receives, depending on the
heads of the model:

  boxes               results.json: COCO results with the category ids of the data set
  masks               masks/NAME.png with the values of the data set and a palette of class colours;
                      of volumes masks/NAME.nii.gz with the affine and header of the source;
                      of series masks/NAME.csv with one row per position
  classes             categories.csv: the most probable classes of each image
  embeddings          embeddings.npz: path (N,) and embedding (N, E), of length 1

and in every case images.json (the file of each id), classes.json (the class of each mask value) and
overlays/ for inspection. Images that cannot be read are listed at the end, and the exit code is 1;
the results of all others are kept.

Models of volumes read NIfTI, MetaImage and NRRD files and folders of DICOM files. The channels of a
case are CASE_0000.nii.gz, CASE_0001.nii.gz and so on, or the files of each patient's folder that
channels= names. A NIfTI volume that would take more than 2 GiB is predicted slab by slab where the
inferer is a sliding window and no resampling is needed. A TIFF or .npy image of more than 67
million pixels is processed in tiles, which bound the memory, and its mask is masks/NAME.tif.
""",
    examples=(
        "predict checkpoint=runs/NAME/TIMESTAMP source=photos output=out",
        "predict checkpoint=PATH source='photos/**/*.jpg' output=out threshold=0.7",
        "predict checkpoint=PATH source=photos output=out format=yolo",
        "predict checkpoint=PATH source=val2017 output=out annotations=instances_val2017.json",
        "predict checkpoint=PATH source=patient_17/T1 output=out",
        "predict checkpoint=PATH source=patients.csv output=out    # columns image_0, image_1 ...",
        "predict checkpoint=PATH source=BraTS output=out channels=[flair,t1,t1ce,t2]",
        "predict checkpoint=PATH source=scans output=out inferer.overlap=0.75",
        "predict checkpoint=PATH source=photos output=out engine=openvino precision=int8",
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
        Option("output", text("DIR", "a folder"), None, "folder for the results", required=True),
        THRESHOLD,
        Option(
            "format",
            choice("yolo"),
            None,
            "yolo: also labels/NAME.txt, one per image, with the boxes and scores that are drawn or"
            " with the outlines of masks, and data.yaml with the class names",
        ),
        Option(
            "annotations",
            text("FILE"),
            None,
            "COCO JSON to take image ids from, so that densekit eval results= can match them",
        ),
        Option(
            "channels",
            names(),
            (),
            "names of the channels: files in each patient's folder, or columns of a table",
        ),
        Option(
            "series",
            text("NAME"),
            None,
            "UID or description of the series to read from DICOM folders; * and ? are wildcards",
        ),
        Option("overlays", flag(), True, "whether to write overlays"),
        Option(
            "embeddings",
            choice(*FORMATS),
            "npz",
            "file format of embeddings; parquet needs densekit[faces]",
        ),
        DEVICE,
        ENGINE,
        PRECISION,
        CALIBRATION,
        TRUST,
    ),
    settings=(
        (
            "inferer.KEY=VALUE",
            "an argument of the checkpoint's inferer; or another inferer,"
            " inferer={_target_:densekit.inference.SlidingWindow,window:[256,256]}",
        ),
        (
            "data=NAME",
            "with precision=int8: training images to measure its scales on, in place of those that"
            " the checkpoint names; data.KEY=VALUE changes where they are",
        ),
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if an image could not be read."""
    of_inferer = [word for word in arguments if _root(word) == "inferer"]
    of_data = [word for word in arguments if _root(word) in ("data", "paths")]
    own = [word for word in arguments if word not in (*of_inferer, *of_data)]
    options, _ = parse_command(COMMAND, own)
    checkpoint = checkpoint_file(options["checkpoint"])
    _check_given(options)
    from densekit.app.prediction.run import predict

    return predict(checkpoint, options, of_inferer, of_data)


def _root(word: str) -> str:
    """The first component of a key, such as `inferer` of `+inferer.window=[64,64]`."""
    return word.partition("=")[0].lstrip("+~").partition(".")[0]


def _check_given(options: Mapping[str, Any]) -> None:
    """Refuses values that are wrong for any model before torch is imported, which takes seconds."""
    check_installed(options["embeddings"])
    if not glob.has_magic(options["source"]):
        existing("source", options["source"])
    if options["annotations"] is not None:
        existing("annotations", options["annotations"])
