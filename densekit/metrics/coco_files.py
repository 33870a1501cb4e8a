"""COCO results against COCO annotations, both as files: no model and no images needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densekit.metrics.coco_entries import Annotation, read_detections, read_ground_truth
from densekit.metrics.coco_map import CocoMap
from densekit.metrics.coco_protocol import Shapes, measure, nothing_measured, summarize
from densekit.metrics.rows import check_names

IOU_TYPES = ("bbox", "segm")

LENIENCY = 0.05
"""Share of detections that may leave their image by this share of its side without a word."""

logger = logging.getLogger(__name__)


def evaluate_files(
    results: str | Path,
    annotations: str | Path,
    *,
    iou_type: str = "bbox",
    max_detections: int = 100,
) -> dict[str, float]:
    """Measures a file of COCO results.

    The area of a detection is that of its mask for `segm` (pycocotools takes the box's where an
    entry has both). Annotation ids are not used, so an id of 0 or a repeated one, which
    pycocotools takes for "unmatched", does no harm. Detections of a category that the annotations
    do not have are left out, as there, with a warning.

    Args:
        results: JSON list of `{"image_id", "category_id", "score"}` with `bbox` (xywh) or
            `segmentation` (RLE or polygons).
        annotations: COCO JSON with images, categories and annotations.
        iou_type: `bbox` or `segm`.
        max_detections: Maximum number of detections per class and image.

    Returns:
        The metrics of `CocoMap` under the same names.

    Raises:
        ValueError: If a file is not what it should be, with the file, the entry and what is
            accepted.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type: expected one of {', '.join(IOU_TYPES)}, got {iou_type!r}")
    images, names, truth, detections = _read(results, annotations, iou_type)
    category_ids = sorted(names)
    class_names = check_names([names[i] for i in category_ids])
    if not truth:
        logger.warning("AP is nan: %s has no annotations", annotations)
        return nothing_measured(class_names, max_detections)
    image_ids = sorted(images)
    place = {image_id: position for position, image_id in enumerate(image_ids)}
    label = {category: position for position, category in enumerate(category_ids)}
    tables = measure(
        len(image_ids),
        len(category_ids),
        _shapes(truth, place, label, iou_type),
        np.asarray([row["iscrowd"] for row in truth], dtype=np.bool_),
        _shapes(detections, place, label, iou_type),
        np.asarray([row["score"] for row in detections], dtype=np.float64),
        max_detections=max_detections,
    )
    return summarize(tables, class_names)


def metric_of_files(results: str | Path, annotations: str | Path) -> tuple[CocoMap, dict[int, str]]:
    """The computed metric of a file of COCO boxes, and the file name of each image.

    Args:
        results: See `evaluate_files`.
        annotations: See `evaluate_files`.

    Raises:
        ValueError: See `evaluate_files`.
    """
    images, names, truth, detections = _read(results, annotations, "bbox")
    label = {category: position for position, category in enumerate(sorted(names))}
    metric = CocoMap([names[category] for category in sorted(names)])
    found, annotated = _by_image(detections), _by_image(truth)
    results_of = [_columns(found.get(image, []), label, "score") for image in images]
    truths: Any = [
        {"image_id": image} | _columns(annotated.get(image, []), label, "area", "iscrowd")
        for image in images
    ]
    metric.update(results_of, truths)
    metric.compute()
    return metric, {image: str(entry.get("file_name", image)) for image, entry in images.items()}


def _read(
    results: str | Path, annotations: str | Path, iou_type: str
) -> tuple[dict[int, Annotation], dict[int, str], list[Annotation], list[Annotation]]:
    """Images and category names by id, annotations, and the detections of known categories."""
    images, names, truth = read_ground_truth(Path(annotations), iou_type)
    detections = read_detections(Path(results), iou_type, images, Path(annotations))
    detections = _of_known_categories(detections, names, Path(results))
    _warn_of_another_frame(detections, images, Path(results))
    return images, names, truth, detections


def _by_image(rows: list[Annotation]) -> dict[int, list[Annotation]]:
    found: dict[int, list[Annotation]] = {}
    for row in rows:
        found.setdefault(row["image_id"], []).append(row)
    return found


def _columns(rows: list[Annotation], label: dict[int, int], *more: str) -> dict[str, Any]:
    """Boxes xyxy, labels and more of one image, by the names of `Result` and `Truth`."""
    boxes = np.asarray([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    names = {"score": "scores", "iscrowd": "crowd"}
    return {
        "boxes": boxes,
        "labels": np.asarray([label[row["category_id"]] for row in rows], dtype=np.int64),
        **{names.get(key, key): np.asarray([float(row[key]) for row in rows]) for key in more},
    }


def _shapes(
    rows: list[Annotation], place: dict[int, int], label: dict[int, int], iou_type: str
) -> Shapes:
    """Rows as columns, with positions for ids of any size."""
    boxes = [row.get("bbox", (0.0, 0.0, 0.0, 0.0)) for row in rows]
    return Shapes(
        image=np.asarray([place[row["image_id"]] for row in rows], dtype=np.int64),
        labels=np.asarray([label[row["category_id"]] for row in rows], dtype=np.int64),
        boxes=np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        area=np.asarray([row["area"] for row in rows], dtype=np.float64),
        masks=[row["segmentation"] for row in rows] if iou_type == "segm" else None,
    )


def _of_known_categories(
    detections: list[Annotation], names: dict[int, str], path: Path
) -> list[Annotation]:
    known = [row for row in detections if row["category_id"] in names]
    unknown = sorted({row["category_id"] for row in detections} - set(names))
    accepted = _listed(sorted(names))
    if detections and not known:
        raise ValueError(
            f"{path}: expected category ids of the annotations ({accepted}), got {_listed(unknown)}"
        )
    if unknown:
        logger.warning(
            "%s: %d detections left out, their category_id (%s) is not one of %s",
            path,
            len(detections) - len(known),
            _listed(unknown),
            accepted,
        )
    return known


def _warn_of_another_frame(
    detections: list[Annotation], images: dict[int, Annotation], path: Path
) -> None:
    """Says when boxes leave their images, as those of an image turned by EXIF do."""
    beyond = 0
    for row in detections:
        image = images[row["image_id"]]
        if row.get("bbox") and image.get("width") and image.get("height"):
            x, y, width, height = row["bbox"]
            right, bottom = (1 + LENIENCY) * image["width"], (1 + LENIENCY) * image["height"]
            beyond += x + width > right or y + height > bottom
    if beyond > LENIENCY * len(detections):
        logger.warning(
            "%s: %d of %d boxes leave their annotated images: were these turned (EXIF) before they"
            " were predicted? `densekit predict annotations=` leaves them as annotated",
            *(path, beyond, len(detections)),
        )


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
