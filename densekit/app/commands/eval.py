"""`densekit eval`: evaluates a checkpoint on a data set, or results against annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from densekit.app.options.shared import CHECKPOINT, ENGINE, PRECISION, PROGRESS, THRESHOLD, TRUST
from densekit.app.options.table import Command, Option, choice, flag, parse_command, text

OUTPUT = Option(
    "output",
    text("DIR"),
    None,
    "folder for metrics.json and, of boxes, evaluation_test.npz (default: runs/eval/TIMESTAMP; with"
    " results= nothing is written)",
)
FILES_OPTIONS = (
    Option("results", text("FILE", "a JSON file"), None, "COCO results", required=True),
    Option("annotations", text("FILE", "a JSON file"), None, "COCO annotations", required=True),
    Option(
        "iou_type",
        choice("bbox", "segm", "boundary"),
        "bbox",
        "compare boxes, masks, or the rims of masks (boundary AP)",
    ),
    Option(
        "protocol",
        choice("coco", "voc", "lvis"),
        "coco",
        "whose rules; voc measures boxes, lvis boxes and masks",
    ),
)
CHECKPOINT_OPTIONS = (
    CHECKPOINT,
    Option(
        "split",
        choice("test", "val"),
        None,
        "split to evaluate (default: test, or val if there is no test split)",
    ),
    ENGINE,
    PRECISION,
    PROGRESS,
    replace(
        THRESHOLD,
        help="probability from which pixels of binary and multi-label masks and labels of"
        " multi-label images count: a number, or the best that the last validation of the training"
        " has measured (default: that of the head's configuration, else 0.5, as in training)",
    ),
    Option(
        "assert_expected",
        flag(),
        False,
        "end with exit code 1 if a metric is outside the tolerance that the experiment expects",
    ),
    Option(
        "artifact",
        text("FILE"),
        None,
        "also write the model to this file, with the thresholds that this evaluation has measured,"
        " by which predict and verify decide; split=val keeps the test out of them",
    ),
)
COMMAND = Command(
    name="eval",
    usage="""
checkpoint=PATH [key=value ...]
results=FILE annotations=FILE [key=value ...]
""".strip(),
    about="""
The first form prints the metrics of a checkpoint and writes them to metrics.json. The data set is
the one the model was trained with, or another one: data=NAME. The second form needs no model: it
compares a file of COCO results with COCO annotations.
""",
    examples=(
        "eval checkpoint=runs/quickstart/TIMESTAMP",
        "eval checkpoint=PATH data=bccd paths.data=FOLDER split=val",
        "eval checkpoint=PATH data.bccd.test.root=FOLDER",
        "eval checkpoint=PATH trainer.devices=2 trainer.accelerator=cpu",
        "eval checkpoint=PATH engine=inductor precision=bf16",
        "eval checkpoint=PATH threshold=best",
        "eval checkpoint=PATH assert_expected=true",
        "eval results=detections.json annotations=instances_val2017.json",
        "eval results=masks.json annotations=instances_val2017.json iou_type=boundary",
        "eval results=detections.json annotations=lvis_v1_val.json protocol=lvis",
    ),
    options=[
        replace(option, required=False) for option in (*CHECKPOINT_OPTIONS, *FILES_OPTIONS, OUTPUT)
    ],
    settings=(
        ("data=NAME", "a file of the group data, listed below"),
        ("metrics=NAME", "a file of the group metrics, or several: metrics=[coco,voc]"),
        (
            "trainer.KEY=VALUE",
            "devices, accelerator, limit_test_batches and so on; those of the training are not"
            " used",
        ),
        TRUST.row,
    ),
    overrides=True,
    groups=lambda: ["data", "metrics"],
)
CHECKPOINT_FORM = replace(COMMAND, options=(*CHECKPOINT_OPTIONS, OUTPUT))
FILES_FORM = replace(COMMAND, options=(*FILES_OPTIONS, OUTPUT), overrides=False)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    if any(word.partition("=")[0] in ("results", "annotations") for word in arguments):
        options, _ = parse_command(FILES_FORM, arguments)
        from densekit.app.run.result_files import evaluate_results

        evaluate_results(options)
        return 0
    options, rest = parse_command(CHECKPOINT_FORM, arguments)
    from densekit.app.config.overrides import parse
    from densekit.app.run.evaluation import evaluate

    evaluate(options, parse(rest))
    return 0
