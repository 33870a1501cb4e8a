"""Average precision of masks by the IoU of their rims, which large areas cannot make look good.

Cheng et al. 2021, "Boundary IoU: Improving object-centric image segmentation evaluation", section
5.1: COCO's protocol with the smaller one of mask IoU and boundary IoU; a crowd region keeps its
mask IoU, as in the authors' code.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densekit.metrics.detection.coco_protocol import CocoTables, Shapes, detection_limits
from densekit.metrics.segmentation.boundary_iou import rim
from densekit.metrics.segmentation.mask_pair import Mask
from densekit.metrics.segmentation.surfaces import crop
from densekit.types import RunLengths

DILATION = 0.02
"""Width of the rim as a share of the image's diagonal."""
LEAST = 0.5
"""The smallest IoU that the protocol asks for: below, the rims need not be looked at."""


def measure_boundaries(
    sizes: list[tuple[int, int]],
    num_classes: int,
    truth: Shapes,
    crowd: NDArray[np.bool_],
    detections: Shapes,
    scores: NDArray[np.float64],
    *,
    max_detections: int = 100,
) -> CocoTables:
    """Matches detections to ground truth by COCO's protocol and the IoU of rims.

    Args:
        sizes: Height and width of every image.
        num_classes: K.
        truth: The annotated objects, with masks.
        crowd: (N,) of the annotated objects.
        detections: The detected objects, with masks.
        scores: Of the detected objects.
        max_detections: Maximum number of detections per class and image.
    """
    limits = detection_limits(max_detections)
    annotated = _data_set(sizes, num_classes, truth, iscrowd=crowd.astype(int).tolist())
    found = _data_set(sizes, num_classes, detections, score=scores.tolist())
    evaluator = _BoundaryEvaluation(annotated, found, "segm")
    evaluator.params.maxDets = list(limits)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
    return CocoTables(evaluator.eval["precision"], evaluator.eval["recall"], limits)


def boundary_iou(first: Mask, second: Mask) -> float:
    """IoU of the rims of two masks (H, W), `DILATION` of the diagonal wide."""
    width = max(1, round(DILATION * math.hypot(*first.shape)))
    rims = [rim(mask, width) for mask in crop(first, second)]
    union = int((rims[0] | rims[1]).sum())
    return int((rims[0] & rims[1]).sum()) / union if union else 0.0


def rim_iou(
    ious: NDArray[np.float64],
    masks: Sequence[RunLengths],
    objects: Sequence[RunLengths],
    crowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(D, G) the smaller one of mask IoU and boundary IoU; below `LEAST` the mask IoU.

    Args:
        ious: (D, G) of the masks.
        masks: D of an image.
        objects: G of it.
        crowd: (G,) which of them keep their mask IoU.
    """
    found = ious.copy()
    near = (ious >= LEAST) & ~crowd
    decoded = {
        (side, n): rle_api.decode(runs[n]).astype(bool)
        for side, runs in enumerate((masks, objects))
        for n in np.flatnonzero(near.any(axis=1 - side)).tolist()
    }
    for d, g in np.argwhere(near):
        found[d, g] = min(ious[d, g], boundary_iou(decoded[0, d], decoded[1, g]))
    return found


class _BoundaryEvaluation(COCOeval):  # type: ignore[misc] # pycocotools has no types
    """pycocotools' evaluation with another IoU."""

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803 # pycocotools' names
        """(D, G) of the detections of an image and class by falling score, at most the limit."""
        ious = super().computeIoU(imgId, catId)
        objects, detections = self._gts[imgId, catId], self._dts[imgId, catId]
        if not len(objects) or not len(detections):
            return ious
        order = np.argsort([-one["score"] for one in detections], kind="mergesort")
        crowd = np.array([bool(one["iscrowd"]) for one in objects])
        runs = [detections[place]["segmentation"] for place in order[: len(ious)]]
        return rim_iou(ious, runs, [one["segmentation"] for one in objects], crowd)


def _data_set(
    sizes: list[tuple[int, int]], num_classes: int, shapes: Shapes, **more: list[Any]
) -> COCO:
    """Objects as pycocotools takes them; ids begin at 1, as it takes 0 for nothing."""
    assert shapes.masks is not None
    columns = {
        "image_id": shapes.image.tolist(),
        "category_id": shapes.labels.tolist(),
        "area": shapes.area.tolist(),
        "segmentation": shapes.masks,
        "iscrowd": [0] * len(shapes.image),
        **more,
    }
    data = COCO()
    data.dataset = {
        "images": [{"id": n, "height": h, "width": w} for n, (h, w) in enumerate(sizes)],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": [
            {"id": n, **dict(zip(columns, row, strict=True))}
            for n, row in enumerate(zip(*columns.values(), strict=True), start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        data.createIndex()
    return data
