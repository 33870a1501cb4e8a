"""A report on 5,000 images stays below 5 MB, and takes seconds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.app.reports.page import LIMIT
from densekit.app.reports.run import report
from densekit.evaluation import Evaluation, write_evaluation
from densekit.metrics import CocoMap, MeanIoU
from densekit.visualization.label_maps import label_map
from tests.unit.app.reports.runs import measured

IMAGES, SECONDS = 5000, 240
NAMES = [f"class {number}" for number in range(20)]


def scenes(rng: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Ten objects per image, found with some noise and some classes mistaken."""
    results, truths = [], []
    for image_id in range(IMAGES):
        corner = rng.uniform(0, 400, (10, 2))
        boxes = np.concatenate((corner, corner + rng.uniform(20, 200, (10, 2))), axis=1)
        labels = rng.integers(0, len(NAMES), 10)
        truths.append({"image_id": image_id, "boxes": boxes, "labels": labels})
        found = boxes + rng.uniform(-8, 8, boxes.shape)
        mistaken = np.where(rng.random(10) < 0.2, rng.integers(0, len(NAMES), 10), labels)
        results.append({"boxes": found, "labels": mistaken, "scores": rng.random(10)})
    return results, truths


def blobs(rng: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Masks of several areas, most of them predicted a little off."""
    results, truths = [], []
    y, x = np.mgrid[:96, :128]
    for image_id in range(IMAGES):
        mask, shifted = np.zeros((96, 128), np.uint8), np.zeros((96, 128), np.uint8)
        for label in range(1, 6):
            cy, cx, r = rng.uniform(0, 96), rng.uniform(0, 128), rng.uniform(5, 30)
            mask[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = label
            shifted[(y - cy - 2) ** 2 + (x - cx - 3) ** 2 < r**2] = label
        truths.append({"image_id": image_id, "mask": mask})
        results.append({"mask": shifted.astype(np.int64)})
    return results, truths


@pytest.mark.slow  # a minute: metrics of 5,000 images
def test_five_thousand_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [tmp_path / f"{number}.jpg" for number in range(40)]
    for file in noise:  # pictures that hardly compress
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(file)
    boxes, masks = scenes(rng), blobs(rng)
    paths = {image_id: str(noise[image_id % len(noise)]) for image_id in range(IMAGES)}
    evaluation = Evaluation(
        "test",
        [
            measured(CocoMap(NAMES), boxes, "detection"),
            measured(MeanIoU(NAMES, background=True), masks, "segmentation"),
        ],
        {"set": paths},
        {"set": {}},
    )
    maps = zip(*masks, strict=True)
    evaluation.maps["set", "segmentation"] = {
        truth["image_id"]: label_map(truth["mask"], result["mask"], 2) for result, truth in maps
    }
    file = tmp_path / "evaluation_test.npz"
    write_evaluation(file, evaluation)
    start = time.monotonic()
    page = report([tmp_path], None, None, resamples=1000)
    seconds = time.monotonic() - start
    kept = sum(len(one.png) for one in evaluation.maps["set", "segmentation"].values())
    print(f"page {page.stat().st_size / 1e6:.2f} MB in {seconds:.0f} s")
    print(f"evaluation {file.stat().st_size / 1e6:.1f} MB, of which masks {kept / 1e6:.1f} MB")
    assert page.stat().st_size < LIMIT
    assert kept < 10e6
    assert seconds < SECONDS
