"""The evaluators give the published figures of two reference cases, to every printed digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from densekit.metrics import CocoMap, CocoMaskMap, VocMap, evaluate_files

pytestmark = pytest.mark.real

APS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
NAMES = (*APS, "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")
COCO_PRINTED = {
    "bbox": ".505 .697 .573 .586 .519 .501 .387 .594 .595 .640 .566 .564",
    "segm": ".320 .562 .299 .387 .310 .327 .268 .415 .417 .469 .377 .381",
}
COCO_FOUR_DIGITS = {
    "bbox": ".5046 .6970 .5730 .5856 .5194 .5014 .3868 .5937 .5954 .6398 .5664 .5643",
    "segm": ".3195 .5623 .2989",
}
VOC_PUBLISHED = {
    "VOC07": {10: 0.3333, 30: 0.2684, 50: 0.0303, 75: 0},
    "VOC10": {10: 0.3372, 30: 0.2457, 50: 0.0222, 75: 0},
}


def coco_files(root: Path, iou_type: str) -> tuple[Path, Path]:
    folder = root / "coco_eval"
    return (
        folder / f"instances_val2014_fake{iou_type}100_results.json",
        folder / "instances_val2014_100.json",
    )


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_coco_files_give_the_published_figures(data_root: Path, iou_type: str):
    figures = evaluate_files(*coco_files(data_root, iou_type), iou_type=iou_type)
    printed = [f"{figures[name]:.3f}".lstrip("0") for name in NAMES]
    assert printed == COCO_PRINTED[iou_type].split()
    longer = COCO_FOUR_DIGITS[iou_type].split()
    assert [f"{figures[name]:.4f}".lstrip("0") for name in NAMES[: len(longer)]] == longer


@pytest.mark.parametrize(("kind", "iou_type"), [(CocoMap, "bbox"), (CocoMaskMap, "segm")])
def test_metrics_of_images_give_the_published_figures(data_root: Path, kind, iou_type: str):
    results_path, annotations_path = coco_files(data_root, iou_type)
    entries = json.loads(results_path.read_text())
    data = json.loads(annotations_path.read_text())
    ids = {c["id"]: n for n, c in enumerate(sorted(data["categories"], key=lambda c: c["id"]))}
    metric = kind([f"{n}" for n in range(len(ids))])
    for image in data["images"]:
        mine = [e for e in entries if e["image_id"] == image["id"]]
        theirs = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        result = {**objects_of(mine, image, ids), "scores": np.array([e["score"] for e in mine])}
        truth = {
            **objects_of(theirs, image, ids),
            "image_id": image["id"],
            "area": np.array([a["area"] for a in theirs]),
            "crowd": np.array([bool(a["iscrowd"]) for a in theirs]),
        }
        metric.update([result], [truth])
    figures = list(metric.compute().values())
    expected = COCO_FOUR_DIGITS[iou_type].split()
    assert [f"{float(value):.4f}".lstrip("0") for value in figures[: len(expected)]] == expected


def objects_of(entries: list[dict], image: dict, ids: dict[int, int]) -> dict:
    """Boxes, labels and masks; results of masks alone have no boxes."""
    size = image["height"], image["width"]
    xywh = np.array([e.get("bbox", (0, 0, 1, 1)) for e in entries], float).reshape(-1, 4)
    return {
        "boxes": np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1),
        "labels": np.array([ids[e["category_id"]] for e in entries], dtype=np.int64),
        "masks": [run_lengths(e["segmentation"], size) for e in entries if "segmentation" in e],
    }


def run_lengths(segmentation: Any, size: tuple[int, int]) -> dict:
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return {**segmentation, "counts": segmentation["counts"].encode()}
    runs = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.merge(runs) if isinstance(runs, list) else runs


def test_voc_map_gives_the_published_figures(data_root: Path):
    folder = data_root / "voc_eval"
    metric = VocMap(["object"], iou_thresholds=[0.1, 0.3, 0.5, 0.75])
    for path in sorted((folder / "gts").glob("*.txt")):
        truth, _ = inclusive_boxes(path)
        boxes, scores = inclusive_boxes(folder / "dets" / path.name)
        labels = np.zeros(len(boxes), dtype=np.int64)
        metric.update(
            [{"boxes": boxes, "scores": scores, "labels": labels}],
            [{"image_id": int(path.stem), "boxes": truth, "labels": np.zeros(len(truth))}],
        )
    figures = metric.compute()
    for definition, published in VOC_PUBLISHED.items():
        for threshold, value in published.items():
            for key in (f"{definition}_AP{threshold}", f"{definition}_AP{threshold}/object"):
                assert f"{float(figures[key]):.4f}" == f"{value:.4f}", key


def inclusive_boxes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of `class [score] x y w h` lines, whose last pixels (x + w, y + h) belong to them."""
    rows = np.array([line.split()[1:] for line in path.read_text().splitlines()], dtype=np.float64)
    x, y, width, height = rows[:, -4:].T
    return np.stack((x - 1, y - 1, x + width, y + height), axis=1), rows[:, 0]
