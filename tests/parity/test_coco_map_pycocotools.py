"""CocoMap and CocoMaskMap on random scenes equal pycocotools bit for bit."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densekit.metrics import CocoMap, CocoMaskMap
from tests.unit.metrics.detection.scenes import masked, random_scene

pytestmark = pytest.mark.parity

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
RECALLS = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")


def reference(results, truths, num_classes, iou_type="bbox"):
    """The twelve numbers and per-class AP of pycocotools, NaN for its -1."""
    images = [{"id": t["image_id"], "height": 640, "width": 640} for t in truths]
    gts, dts = [], []
    for result, truth in zip(results, truths, strict=True):
        for n in range(len(truth["labels"])):
            gts.append(
                coco_box(truth, truth, n, len(gts))
                | {"area": float(truth["area"][n]), "iscrowd": int(truth["crowd"][n])}
            )
        for n in range(len(result["labels"])):
            dts.append(coco_box(truth, result, n, len(dts)))
            dts[-1] |= {"score": float(result["scores"][n]), "iscrowd": 0}
            dts[-1]["area"] = dts[-1]["bbox"][2] * dts[-1]["bbox"][3]
            if iou_type == "segm":
                dts[-1]["area"] = float(coco_mask.area(dts[-1]["segmentation"]))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(
            indexed(images, gts, num_classes), indexed(images, dts, num_classes), iou_type
        )
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    numbers = np.where(evaluator.stats == -1, np.nan, evaluator.stats)
    figures = dict(zip(NAMES + RECALLS, numbers, strict=True))
    for k in range(num_classes):
        cells = evaluator.eval["precision"][:, :, k, 0, -1]
        cells = cells[cells > -1]
        figures[f"AP/class {k}"] = cells.mean() if cells.size else np.nan
    return figures


def coco_box(truth, one, n, index):
    x1, y1, x2, y2 = np.asarray(one["boxes"][n], dtype=np.float64).tolist()
    segmentation = {"segmentation": one["masks"][n]} if "masks" in one else {}
    return segmentation | {
        "id": index + 1,
        "image_id": truth["image_id"],
        "category_id": int(one["labels"][n]),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
    }


def indexed(images, annotations, num_classes):
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k} for k in range(num_classes)],
    }
    coco.createIndex()
    return coco


@pytest.mark.parametrize(
    ("num_images", "num_classes", "crowd", "ties"),
    [
        pytest.param(23, 3, 0.0, False, id="plain"),
        pytest.param(23, 3, 0.2, True, id="crowds-and-ties"),
        pytest.param(31, 40, 0.1, True, id="many-classes"),
        pytest.param(2, 1, 0.0, False, id="one-class"),
        pytest.param(12, 2, 1.0, False, id="only-crowds"),
    ],
)
def test_random_scenes_equal_pycocotools(num_images, num_classes, crowd, ties):
    rng = np.random.default_rng(num_images * num_classes)
    results, truths = random_scene(rng, num_images, num_classes, crowd=crowd, ties=ties)
    assert any(len(t["labels"]) == 0 for t in truths) or num_images < 5
    metric = CocoMap([f"class {k}" for k in range(num_classes)])
    for start in range(0, num_images, 4):
        metric.update(results[start : start + 4], truths[start : start + 4])
    ours = metric.compute()
    theirs = reference(results, truths, num_classes)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert float(ours[name]) == pytest.approx(value, abs=0, rel=0, nan_ok=True), name


def test_more_than_the_limit_of_detections_equals_pycocotools():
    rng = np.random.default_rng(5)
    results, truths = random_scene(rng, 4, 1, crowd=0.1, ties=True, detections=160)
    assert max(len(r["labels"]) for r in results) > 100
    metric = CocoMap(["class 0"])
    metric.update(results, truths)
    ours = metric.compute()
    for name, value in reference(results, truths, 1).items():
        assert float(ours[name]) == pytest.approx(value, abs=0, rel=0, nan_ok=True), name


@pytest.mark.parametrize(("crowd", "ties"), [(0.0, False), (0.3, True)])
def test_masks_of_random_scenes_equal_pycocotools(crowd, ties):
    scene = random_scene(np.random.default_rng(7), 23, 3, crowd=crowd, ties=ties)
    results, truths = masked(scene)
    metric = CocoMaskMap([f"class {k}" for k in range(3)])
    for start in (20, 10, 0):
        metric.update(results[start : start + 10], truths[start : start + 10])
    ours = metric.compute()
    theirs = reference(results, truths, 3, "segm")
    assert list(ours) == [f"mask_{name}" for name in theirs]
    for name, value in theirs.items():
        expected = pytest.approx(value, abs=0, rel=0, nan_ok=True)
        assert float(ours[f"mask_{name}"]) == expected, name
