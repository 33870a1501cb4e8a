"""COCO evaluation of synthetic detections, by pycocotools and by us, proven equal and timed.

I images, K classes, N objects or detections of all images together.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from densekit.metrics import CocoMap

OBJECTS, DETECTIONS = 7, 36
"""Mean numbers per image: COCO's, and a detector's that keeps at most 100."""
SIDE = 600
NUMBERS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


class EvaluationPair(NamedTuple):
    """The same detections, to be evaluated by both.

    Attributes:
        theirs: pycocotools' twelve numbers, from its lists of detections and annotations.
        ours: The same numbers of a `CocoMap` that has seen every image.
        collect: Shows a new `CocoMap` every image, what training does between its batches.
        detections: Their number.
    """

    theirs: Callable[[], Mapping[str, float]]
    ours: Callable[[], Mapping[str, float]]
    collect: Callable[[], CocoMap]
    detections: int


def evaluation_pair(images: int, classes: int = 80, seed: int = 0) -> EvaluationPair:
    """Draws objects, 2% of them crowds, and detections, half of them near an object."""
    rng = np.random.default_rng(seed)
    truth = _objects(rng, images, classes)
    found = _detections(rng, truth, images, classes)
    results, truths = _by_image(found, images), _by_image(truth, images)
    for image, entry in enumerate(truths):
        entry["image_id"] = image

    def collect() -> CocoMap:
        metric = CocoMap([f"class {k}" for k in range(classes)])
        metric.update(results, truths)
        return metric

    metric = collect()

    def ours() -> dict[str, float]:
        metric._computed = None  # torchmetrics keeps it
        return {name: float(value) for name, value in metric.compute().items()}

    return EvaluationPair(
        _reference(found, truth, images, classes), ours, collect, len(found["labels"])
    )


def check_numbers(pair: EvaluationPair) -> None:
    """Compares the twelve numbers bit for bit.

    Raises:
        RuntimeError: They differ.
    """
    theirs, ours = pair.theirs(), pair.ours()
    for name in NUMBERS:
        if theirs[name] != ours[name] and not (math.isnan(ours[name]) and theirs[name] == -1):
            raise RuntimeError(f"{name}: expected pycocotools' {theirs[name]}, got {ours[name]}")


Rows = dict[str, NDArray[Any]]


def _objects(rng: np.random.Generator, images: int, classes: int) -> Rows:
    image = np.repeat(np.arange(images), rng.poisson(OBJECTS, images))
    boxes = _boxes(rng, len(image))
    return {
        "image": image,
        "labels": rng.integers(0, classes, len(image)),
        "boxes": boxes,
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * rng.uniform(0.4, 1, len(image)),
        "crowd": rng.random(len(image)) < 0.02,
    }


def _detections(rng: np.random.Generator, truth: Rows, images: int, classes: int) -> Rows:
    image = np.repeat(np.arange(images), rng.poisson(DETECTIONS, images))
    labels, boxes = rng.integers(0, classes, len(image)), _boxes(rng, len(image))
    near = rng.random(len(image)) < 0.5
    like = rng.integers(0, len(truth["image"]), int(near.sum()))
    image[near], labels[near] = truth["image"][like], truth["labels"][like]
    sides = np.tile(truth["boxes"][like, 2:] - truth["boxes"][like, :2], 2)
    boxes[near] = truth["boxes"][like] + rng.normal(0, 0.05, (len(like), 4)) * sides
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    order = np.argsort(image, kind="stable")
    found = {"image": image, "labels": labels, "boxes": boxes, "scores": rng.random(len(image))}
    return {name: values[order] for name, values in found.items()}


def _boxes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count, 4) xyxy, of all of COCO's sizes."""
    corner = rng.uniform(0, SIDE / 2, (count, 2))
    sides = np.exp(rng.uniform(np.log(4), np.log(SIDE / 2), (count, 2)))
    return np.concatenate((corner, corner + sides), axis=1)


def _by_image(rows: Rows, images: int) -> list[dict[str, Any]]:
    """One dict of tensors per image, as a model's results are."""
    ends = np.searchsorted(rows["image"], np.arange(1, images))
    names = [name for name in rows if name != "image"]
    parts = zip(*(np.split(rows[name], ends) for name in names), strict=True)
    return [
        {name: torch.from_numpy(part) for name, part in zip(names, of, strict=True)} for of in parts
    ]


def _reference(
    found: Rows, truth: Rows, images: int, classes: int
) -> Callable[[], Mapping[str, float]]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": _entries(truth, id=np.arange(1, len(truth["image"]) + 1)),
    }
    results = _entries(found)

    def run() -> Mapping[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            annotated = COCO()
            annotated.dataset = dataset
            annotated.createIndex()
            evaluator = COCOeval(annotated, annotated.loadRes(results), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return dict(zip(NUMBERS, evaluator.stats.tolist(), strict=True))

    return run


_COCO = {"image": "image_id", "labels": "category_id", "scores": "score", "crowd": "iscrowd"}


def _entries(rows: Rows, **more: NDArray[Any]) -> list[dict[str, Any]]:
    """One COCO entry per row."""
    boxes = rows["boxes"]
    columns = {_COCO.get(name, name): values for name, values in rows.items() if name != "boxes"}
    columns |= {"bbox": np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1), **more}
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, of, strict=True)) for of in values]
