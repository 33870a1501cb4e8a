"""Result files with boxes, polygons and run lengths are measured as by pycocotools, bit for bit."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densekit.metrics import evaluate_files

pytestmark = pytest.mark.parity

AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}


class Case:
    """A random data set with its results; every choice follows from the seed."""

    def __init__(self, seed: int, iou_type: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.masks = iou_type == "segm"
        self.side = int(self.rng.choice([40, 130, 300]))
        images, classes = int(self.rng.integers(1, 12)), int(self.rng.integers(1, 7))
        self.image_ids = [int(i) for i in self.rng.choice(2**40, images, replace=False)]
        self.class_ids = [int(i) for i in self.rng.choice(100, classes, replace=False)]
        self.at_borders, self.on_grid, self.ties = self.rng.random(3) < 0.4
        self.crowd = float(self.rng.choice([0, 0.2, 1]))

    def write(self, folder):
        """Paths of results and annotations."""
        truth = [self.annotated(i) for i in self.image_ids for _ in range(self.few(0, 1, 3, 9))]
        truth = [row | {"id": n} for n, row in enumerate(truth, start=1)]
        if not truth:
            truth = [self.annotated(self.image_ids[0]) | {"id": 1}]
        found = [self.found(i, truth) for i in self.image_ids for _ in range(self.few(0, 4, 20))]
        if self.rng.random() < 0.2:
            found += [self.found(self.image_ids[0], truth) for _ in range(130)]
        size = {"height": self.side, "width": self.side + 3}
        data = {
            "images": [{"id": i, **size} for i in self.image_ids],
            "categories": [{"id": i, "name": f"class {i}"} for i in self.class_ids],
            "annotations": truth,
        }
        paths = folder / "results.json", folder / "annotations.json"
        found = found or [self.found(self.image_ids[0], truth)]  # pycocotools reads no empty list
        for path, content in zip(paths, (found, data), strict=True):
            path.write_text(json.dumps(content))
        return paths

    def few(self, *counts):
        return int(self.rng.choice(counts))

    def annotated(self, image_id):
        box = self.box()
        areas = [box[2] * box[3], 0, 1024, 9216, 1023.9999, 1024.0000001, 1e10]
        return {
            "image_id": image_id,
            "category_id": self.few(*self.class_ids),
            "bbox": box,
            "area": float(self.rng.choice(areas)),
            "iscrowd": int(self.rng.random() < self.crowd),
            **({"segmentation": self.segmentation()} if self.masks else {}),
        }

    def found(self, image_id, truth):
        """A detection: of an annotated object of the image where there is one, or anywhere."""
        same = [row for row in truth if row["image_id"] == image_id] or truth
        like = same[int(self.rng.integers(len(same)))] if self.rng.random() < 0.6 else None
        label = self.few(*self.class_ids) if like is None else like["category_id"]
        score = self.rng.choice([0.1, 0.5, 0.9]) if self.ties else self.rng.random()
        row = {"image_id": image_id, "category_id": label, "score": float(score)}
        if self.masks:
            copied = like is not None and self.rng.random() < 0.5
            shape = like["segmentation"] if copied else self.segmentation()
            return row | {"segmentation": compressed(shape, self.side, self.side + 3)}
        if like is None:
            return row | {"bbox": self.box()}
        moved = [v + float(self.rng.choice([0, 0, 1, self.rng.random()])) for v in like["bbox"]]
        return row | {"bbox": moved}

    def box(self):
        if self.at_borders:  # its area is exactly where COCO's ranges meet
            width = float(self.rng.choice([16, 32, 48, 64, 96]))
            height = float(self.rng.choice([32**2, 96**2])) / width
            return [*map(float, self.rng.integers(0, 8, 2) * 8), width, height]
        if self.on_grid:  # many equal overlaps, and boxes without area
            return list(map(float, self.rng.integers(0, self.side // 2, 4)))
        return (self.rng.random(4) * self.side * 0.6).tolist()

    def segmentation(self):
        kind = self.rng.random()
        if kind < 0.4:
            corners = [2 * self.few(3, 4, 8) for _ in range(self.few(1, 2))]
            spread = 1.1 * self.side
            return [(self.rng.random(n) * spread - 0.05 * self.side).tolist() for n in corners]
        plane = np.zeros((self.side, self.side + 3), dtype=np.uint8, order="F")
        if kind < 0.95:  # else an empty mask
            rows, columns = (np.sort(self.rng.integers(0, self.side, 2)) for _ in range(2))
            plane[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 1
        if kind < 0.6:
            plane &= self.rng.random(plane.shape) < 0.7
        if kind < 0.75:
            return {"size": list(plane.shape), "counts": run_lengths(plane)}
        return as_text(coco_mask.encode(plane))


def compressed(segmentation, height, width):
    """The only form in which pycocotools reads results."""
    if isinstance(segmentation, list):
        parts = coco_mask.frPyObjects(segmentation, height, width)
        return as_text(coco_mask.merge(parts))
    if isinstance(segmentation["counts"], list):
        return as_text(coco_mask.frPyObjects(segmentation, height, width))
    return segmentation


def as_text(rle):
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def run_lengths(plane):
    flat = np.concatenate(([0], plane.ravel(order="F")))
    starts = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate(([0], starts, [plane.size]))).tolist()


def reference(results, annotations, iou_type, max_detections):
    """COCO's numbers by pycocotools; without its own limit of 100, which its summary insists on."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        evaluator = COCOeval(truth, truth.loadRes(str(results)), iou_type)
        limits = [limit for limit in (1, 10) if limit < max_detections] + [max_detections]
        evaluator.params.maxDets = limits
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    numbers = {f"AP{name}": precision[:, :, :, [a], -1] for name, a in AREAS.items()}
    numbers |= {"AP50": precision[[0], :, :, 0, -1], "AP75": precision[[5], :, :, 0, -1]}
    numbers |= {f"AR{limit}": recall[:, :, 0, m] for m, limit in enumerate(limits)}
    numbers |= {f"AR{name}": recall[:, :, [a], -1] for name, a in AREAS.items() if name}
    for k, class_id in enumerate(sorted(truth.getCatIds())):
        numbers[f"AP/class {class_id}"] = precision[:, :, k, 0, -1]
    return {name: mean(cells[cells > -1]) for name, cells in numbers.items()}


def mean(cells):
    return float(np.mean(cells)) if cells.size else float("nan")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(12), id="few"),
        pytest.param(range(12, 300), id="many", marks=pytest.mark.slow),
    ],
)
def test_random_files_equal_pycocotools(tmp_path, seeds, iou_type):
    for seed in seeds:
        results, annotations = Case(seed, iou_type).write(tmp_path)
        limit = (100, 1, 5, 300)[seed % 4]
        ours = evaluate_files(results, annotations, iou_type=iou_type, max_detections=limit)
        theirs = reference(results, annotations, iou_type, limit)
        assert ours == pytest.approx(theirs, rel=0, abs=0, nan_ok=True), f"seed {seed}"
