"""Random results and annotations that exercise every rule of the protocols."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

SIDE = 640
"""Height and width of the images of masks."""


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) boxes of every COCO size in a frame of about 600 pixels."""
    corner = rng.uniform(0, 300, (count, 2))
    side = np.exp(rng.uniform(np.log(4), np.log(300), (count, 2)))
    return np.concatenate((corner, corner + side), axis=1)


def random_truth(rng, image_id: int, num_classes: int, crowd: float) -> dict:
    """One annotated image, every fourth of them empty."""
    count = 0 if rng.random() < 0.25 else int(rng.integers(1, 9))
    boxes = random_boxes(rng, count)
    sides = boxes[:, 2:] - boxes[:, :2]
    return {
        "image_id": image_id,
        "boxes": boxes,
        "labels": rng.integers(0, num_classes, count),
        # Masks are smaller than their boxes: the protocol must look at this, not at the box.
        "area": sides.prod(axis=1) * rng.uniform(0.4, 1, count),
        "crowd": rng.random(count) < crowd,
        "difficult": rng.random(count) < 0.2,
    }


def random_result(rng, truth: dict, num_classes: int, ties: bool, detections: int) -> dict:
    """Shaken copies of the annotation, some with a wrong class, among random boxes."""
    copies = rng.integers(0, 4, len(truth["labels"]))
    boxes = np.repeat(truth["boxes"], copies, axis=0)
    labels = np.repeat(truth["labels"], copies)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], (1, 2))
    boxes = boxes + rng.normal(0, 0.08, boxes.shape) * sides
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    wrong = rng.random(len(labels)) < 0.15
    labels = np.where(wrong, rng.integers(0, num_classes, len(labels)), labels)
    extra = int(rng.integers(0, detections))
    boxes = np.concatenate((boxes, random_boxes(rng, extra)))
    labels = np.concatenate((labels, rng.integers(0, num_classes, extra)))
    scores = rng.random(len(labels))
    return {
        "boxes": boxes.astype(np.float32),
        "labels": labels,
        "scores": (np.round(scores, 1) if ties else scores).astype(np.float32),
    }


def random_scene(
    rng, num_images: int, num_classes: int, *, crowd=0.0, ties=False, detections=12
) -> tuple[list[dict], list[dict]]:
    """Results and annotations of images with ascending ids that have gaps."""
    ids = np.cumsum(rng.integers(1, 50, num_images)).tolist()
    truths = [random_truth(rng, image_id, num_classes, crowd) for image_id in ids]
    results = [random_result(rng, truth, num_classes, ties, detections) for truth in truths]
    return results, truths


def masked(scene: tuple[list[dict], list[dict]]) -> tuple[list[dict], list[dict]]:
    """The scene with a mask in each box: octagons with shaken corners, some of them empty."""
    rng = np.random.default_rng(0)
    results, truths = (
        [{**one, "masks": random_masks(rng, one["boxes"])} for one in part] for part in scene
    )
    return results, [{**truth, "size": (SIDE, SIDE)} for truth in truths]


def random_masks(rng: np.random.Generator, boxes: np.ndarray) -> list[dict]:
    angle = np.arange(8) * np.pi / 4
    masks = []
    for x1, y1, x2, y2 in np.asarray(boxes, dtype=np.float64):
        radius = rng.uniform(0.3, 0.5, 8)
        x = (x1 + x2) / 2 + np.cos(angle) * radius * (x2 - x1)
        y = (y1 + y2) / 2 + np.sin(angle) * radius * (y2 - y1)
        outline = np.stack((x, y), axis=1).ravel().tolist()
        masks += coco_mask.frPyObjects([outline], SIDE, SIDE)
    return masks
