"""COCO results against COCO annotations, both as files: no model and no images needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.boundary_ap import measure_boundaries
from densekit.metrics.detection.coco_entries import (
    Annotation,
    GroundTruth,
    read_detections,
    read_federation,
    read_ground_truth,
)
from densekit.metrics.detection.coco_map import CocoMap
from densekit.metrics.detection.coco_protocol import Shapes, measure, nothing_measured, summarize
from densekit.metrics.detection.lvis_protocol import measure_lvis, summarize_lvis
from densekit.metrics.detection.voc_map import VocMap
from densekit.metrics.rows import check_names

IOU_TYPES = ("bbox", "segm", "boundary")
PROTOCOLS = ("coco", "voc", "lvis")

LENIENCY = 0.05
"""Share of detections that may leave their image by this share of its side without a word."""

logger = logging.getLogger(__name__)


def evaluate_files(
    results: str | Path,
    annotations: str | Path,
    *,
    iou_type: str = "bbox",
    protocol: str = "coco",
    max_detections: int | None = None,
) -> dict[str, float]:
    """Measures a file of COCO results.

    The area of a detection is that of its mask for `segm` (pycocotools takes the box's where an
    entry has both). Annotation ids are not used, so an id of 0 or a repeated one, which
    pycocotools takes for "unmatched", does no harm. Detections of a category that the annotations
    do not have are left out, as there, with a warning.

    Args:
        results: JSON list of `{"image_id", "category_id", "score"}` with `bbox` (xywh) or
            `segmentation` (RLE or polygons).
        annotations: COCO JSON with images, categories and annotations; for `lvis` images with
            `neg_category_ids` and `not_exhaustive_category_ids`, categories with `frequency`.
        iou_type: `bbox`; `segm`; or `boundary` for boundary AP, of masks by COCO's protocol.
        protocol: `coco`; `voc` for both definitions of VOC, of boxes, with crowds as its difficult
            objects; or `lvis`.
        max_detections: Maximum number of detections per class and image (`coco`; the default is
            100) or per image (`lvis`; 300).

    Returns:
        The metrics of `CocoMap` or `VocMap` under the same names, or those of
        `densekit.metrics.detection.lvis_protocol.summarize_lvis`.

    Raises:
        ValueError: If a file is not what it should be, with the file, the entry and what is
            accepted, or a protocol does not measure what is asked.
    """
    _check(iou_type, protocol, max_detections)
    if protocol == "voc":
        metric, _ = metric_of_files(results, annotations, protocol)
        return {name: float(value) for name, value in metric.compute().items()}
    files = _read(results, annotations, "bbox" if iou_type == "bbox" else "segm")
    if protocol == "lvis":
        return _lvis(files, iou_type == "segm", max_detections or 300)
    return _coco(files, iou_type, max_detections or 100)


def metric_of_files(
    results: str | Path, annotations: str | Path, protocol: str = "coco"
) -> tuple[CocoMap | VocMap, dict[int, str]]:
    """The computed metric of a file of COCO boxes, and the file name of each image.

    Args:
        results: See `evaluate_files`.
        annotations: See `evaluate_files`.
        protocol: `coco` or `voc`.

    Raises:
        ValueError: See `evaluate_files`.
    """
    files = _read(results, annotations, "bbox")
    kind = VocMap if protocol == "voc" else CocoMap
    metric = kind(files.names)
    found, annotated = _by_image(files.detections), _by_image(files.truth.annotations)
    images = files.truth.images
    results_of = [_columns(found.get(image, []), files.label, "score") for image in images]
    truths: Any = [
        {"image_id": image} | _columns(annotated.get(image, []), files.label, "area", "iscrowd")
        for image in images
    ]
    metric.update(results_of, truths)
    metric.compute()
    return metric, {image: str(entry.get("file_name", image)) for image, entry in images.items()}


@dataclass(frozen=True)
class _Files:
    """Annotations and the detections of their categories.

    Attributes:
        path: Of the annotations.
        truth: The annotations.
        detections: Rows in the file's order.
        place: Position of each image among the ascending ids.
        label: Likewise of each category.
        names: Class names by label.
    """

    path: Path
    truth: GroundTruth
    detections: list[Annotation]
    place: dict[int, int]
    label: dict[int, int]
    names: list[str]

    def shapes(self, rows: list[Annotation], with_masks: bool) -> Shapes:
        """Rows as columns, with positions for ids of any size."""
        boxes = [row.get("bbox", (0.0, 0.0, 0.0, 0.0)) for row in rows]
        return Shapes(
            image=np.asarray([self.place[row["image_id"]] for row in rows], dtype=np.int64),
            labels=np.asarray([self.label[row["category_id"]] for row in rows], dtype=np.int64),
            boxes=np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            area=np.asarray([row["area"] for row in rows], dtype=np.float64),
            masks=[row["segmentation"] for row in rows] if with_masks else None,
        )

    def both(self, with_masks: bool) -> tuple[Shapes, Shapes, NDArray[np.float64]]:
        """Annotated and detected objects, and the scores of these."""
        scores = np.asarray([row["score"] for row in self.detections], dtype=np.float64)
        rows = self.truth.annotations, self.detections
        annotated, found = (self.shapes(one, with_masks) for one in rows)
        return annotated, found, scores


def _check(iou_type: str, protocol: str, max_detections: int | None) -> None:
    for key, value, accepted in (
        ("iou_type", iou_type, IOU_TYPES),
        ("protocol", protocol, PROTOCOLS),
    ):
        if value not in accepted:
            raise ValueError(f"{key}: expected one of {', '.join(accepted)}, got {value!r}")
    measured = {"coco": IOU_TYPES, "voc": IOU_TYPES[:1], "lvis": IOU_TYPES[:2]}[protocol]
    if iou_type not in measured:
        raise ValueError(
            f"iou_type: expected {' or '.join(measured)} with protocol={protocol}, got {iou_type}"
        )
    if max_detections is not None and protocol == "voc":
        raise ValueError(
            f"max_detections: expected none with protocol=voc, which has no limit, got"
            f" {max_detections}"
        )
    if max_detections is not None and max_detections < 1:
        raise ValueError(f"max_detections: expected at least 1, got {max_detections}")


def _coco(files: _Files, iou_type: str, max_detections: int) -> dict[str, float]:
    if not files.truth.annotations:
        logger.warning("AP is nan: %s has no annotations", files.path)
        return nothing_measured(files.names, max_detections)
    annotated, found, scores = files.both(iou_type != "bbox")
    crowd = np.asarray([row["iscrowd"] for row in files.truth.annotations], dtype=np.bool_)
    objects = (len(files.names), annotated, crowd, found, scores)
    if iou_type == "boundary":
        images = [files.truth.images[image] for image in files.place]
        sizes = [(image["height"], image["width"]) for image in images]
        tables = measure_boundaries(sizes, *objects, max_detections=max_detections)
    else:
        tables = measure(len(files.place), *objects, max_detections=max_detections)
    return summarize(tables, files.names)


def _lvis(files: _Files, with_masks: bool, max_detections: int) -> dict[str, float]:
    federation = read_federation(files.truth, files.label, files.path)
    annotated, found, scores = files.both(with_masks)
    tables = measure_lvis(federation, annotated, found, scores, max_detections=max_detections)
    return summarize_lvis(tables, files.names, federation.frequency)


def _read(results: str | Path, annotations: str | Path, iou_type: str) -> _Files:
    path = Path(annotations)
    truth = read_ground_truth(path, iou_type)
    detections = read_detections(Path(results), iou_type, truth.images, path)
    detections = _of_known_categories(detections, truth.names, Path(results))
    _warn_of_another_frame(detections, truth.images, Path(results))
    ids = sorted(truth.names)
    return _Files(
        path=path,
        truth=truth,
        detections=detections,
        place={image: position for position, image in enumerate(sorted(truth.images))},
        label={category: position for position, category in enumerate(ids)},
        names=check_names([truth.names[category] for category in ids]),
    )


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
