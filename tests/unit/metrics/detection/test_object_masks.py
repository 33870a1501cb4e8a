"""Masks of objects in metrics: their names, what they explain, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import (
    CocoBoundaryMap,
    CocoMap,
    CocoMaskMap,
    LvisMap,
    LvisMaskMap,
    VocMap,
    VocMaskMap,
)
from densekit.metrics.detection.object_masks import packed, unpacked
from densekit.testing import check_metric
from tests.unit.metrics.detection.scenes import masked, random_scene

NAMES = ["cat", "dog"]


def scene():
    return masked(random_scene(np.random.default_rng(2), 8, 2))


def test_masks_are_judged_by_their_overlap_and_not_by_that_of_their_boxes():
    results, truths = scene()
    perfect = [{**truth, "scores": np.ones(len(truth["labels"]))} for truth in truths]
    for one in perfect:
        one["boxes"] = one["boxes"] + 300  # beside the objects
    metric = CocoMaskMap(NAMES)
    metric.update(perfect, truths)
    assert float(metric.compute()["mask_AP"]) == 1
    assert all(row["mask_missed"] == 0 for row in metric.cases())
    assert metric.analyses()[0].title.startswith("Masks: ")
    metric = CocoMap(NAMES)
    metric.update(perfect, truths)
    assert float(metric.compute()["AP"]) < 0.1


def test_rims_are_harder_than_areas():
    metrics = [CocoMaskMap(NAMES), CocoBoundaryMap(NAMES)]
    for metric in metrics:
        metric.update(*scene())
    areas, rims = (next(iter(metric.compute().values())) for metric in metrics)
    assert 0 < float(rims) < float(areas)
    drawn = metrics[1].resampled(np.ones((1, 8), int))
    assert drawn["boundary_AP"][0] == pytest.approx(float(rims))


def test_lvis_of_masks_is_that_of_boxes_where_every_mask_fills_its_box():
    from pycocotools import mask as coco_mask

    results, truths = random_scene(np.random.default_rng(3), 9, 2)
    for one in (*results, *truths):
        one["boxes"] = np.round(one["boxes"]).astype(np.float64)
        one["boxes"][:, 2:] = np.maximum(one["boxes"][:, 2:], one["boxes"][:, :2] + 1)
        one["boxes"] = one["boxes"].clip(0, 640)
        xywh = np.concatenate((one["boxes"][:, :2], one["boxes"][:, 2:] - one["boxes"][:, :2]), 1)
        one["masks"] = coco_mask.frPyObjects(xywh, 640, 640) if len(xywh) else []
    boxes, masks = LvisMap(NAMES, ["f", "r"]), LvisMaskMap(NAMES, ["f", "r"])
    for metric in (boxes, masks):
        metric.update(results, truths)
    expected = {f"mask_{name}": float(value) for name, value in boxes.compute().items()}
    found = {name: float(value) for name, value in masks.compute().items()}
    assert found == pytest.approx(expected, nan_ok=True)


def test_packed_masks_come_back():
    masks = [one for truth in scene()[1] for one in truth["masks"]]
    words = packed(masks).numpy()
    assert unpacked(words, len(masks)).tolist() == masks
    with pytest.raises(ValueError, match="masks: expected"):
        unpacked(words[:-1], len(masks))
    with pytest.raises(ValueError, match="masks: expected"):
        unpacked(words, len(masks) - 1)


def test_keeps_the_contract():
    check_metric(CocoMaskMap([*NAMES, "cow"]))


def test_refuses():
    results, truths = scene()
    place = next(n for n, truth in enumerate(truths) if len(truth["labels"]))
    mask = truths[place]["masks"][0]
    metric = CocoMaskMap(NAMES)

    def update(change):
        metric.update(results[place : place + 1], [{**truths[place], **change}])

    with pytest.raises(ValueError, match=r"masks, one a box, got 0"):
        update({"masks": []})
    with pytest.raises(ValueError, match=r"expected masks of \[9, 9\], got \[640, 640\]"):
        update({"size": (9, 9)})
    broken = {**mask, "counts": mask["counts"] * 9}
    with pytest.raises(ValueError, match="expected run lengths, got"):
        update({"masks": [broken] * len(truths[place]["labels"])})
    del truths[place]["masks"]
    with pytest.raises(ValueError, match="expected masks, got .*; they need data with instance_m"):
        update({})


@pytest.mark.parametrize("missing", ["results", "truths", "both", "images"])
@pytest.mark.parametrize("kind", [CocoMaskMap, CocoBoundaryMap, VocMaskMap, CocoMap, VocMap])
def test_nothing_found_or_nothing_annotated_is_explained_too(kind: type, missing: str) -> None:
    results, truths = scene()
    kept = slice(0) if missing == "images" else slice(None)
    parts = {"results": results, "truths": truths}
    for name, part in parts.items():
        if missing in (name, "both"):
            parts[name] = [_without_objects(one) for one in part]
    metric = kind(NAMES)
    metric.update(parts["results"][kept], parts["truths"][kept])
    values = metric.compute()
    assert not any(float(value) > 0 for value in values.values())
    metric.facts()
    metric.analyses()
    metric.suspects()
    metric.cases()
    if missing != "images":
        metric.resampled(np.ones((2, 8), int))


def _without_objects(one: dict) -> dict:
    empty = {key: value[:0] for key, value in one.items() if key not in ("image_id", "size")}
    return {**one, **empty}
