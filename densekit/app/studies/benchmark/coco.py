"""COCO evaluation of synthetic boxes: pycocotools and what `densekit.metrics` computes with."""

from __future__ import annotations

from densekit.app.studies.benchmark.pair import Options
from densekit.app.studies.benchmark.work import OURS, Row, Work
from densekit.app.studies.coco_evaluation import check_numbers, evaluation_pair

PEER = "pycocotools"


def coco_work(options: Options) -> Work:
    """The twelve numbers of detections on N images.

    Pycocotools begins with its lists in memory, ours with a metric that has seen every image, as
    after the last batch of a validation; the row `with_collecting` also shows it the images.

    Raises:
        RuntimeError: A number differs.
    """
    count, classes = int(options["batch"]), int(options["classes"])
    pair = evaluation_pair(count, classes)
    check_numbers(pair)
    return Work(
        f"COCO evaluation: {count} images, {classes} classes, {pair.detections} detections",
        "the twelve numbers bit for bit",
        [
            Row(PEER, "", "", lambda: pair.theirs),
            Row(OURS, "", "", lambda: pair.ours),
            Row(OURS, "with_collecting", "", lambda: lambda: pair.collect().compute()),
        ],
    )
