"""LVIS's AP as a metric: like files of the same content, and like its own matching."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densekit.metrics import LvisMap, evaluate_files
from densekit.metrics.protocols import HasAnalyses, HasResamples
from tests.unit.metrics.detection.scenes import random_scene

NAMES, FREQUENCY = ["cat", "dog", "cow", "owl"], ["f", "c", "r", "r"]


def federated_scene(seed: int) -> tuple[list[dict], list[dict]]:
    """A random scene in which some classes were searched for, and some not exhaustively."""
    rng = np.random.default_rng(seed)
    results, truths = random_scene(rng, 25, 4, ties=seed % 2 == 0)
    for truth in truths:
        there = np.unique(truth["labels"])
        absent = np.setdiff1d(np.arange(4), there)
        truth["negative_labels"] = absent[rng.random(len(absent)) < 0.4]
        truth["not_exhaustive_labels"] = there[rng.random(len(there)) < 0.3]
    return results, truths


def measured(scene, **arguments) -> tuple[LvisMap, dict[str, float]]:
    metric = LvisMap(NAMES, FREQUENCY, **arguments)
    metric.update(*scene)
    return metric, {name: float(value) for name, value in metric.compute().items()}


def write(folder, results, truths):
    """The same as files; ids begin at 1."""
    images = [
        {
            "id": t["image_id"],
            "height": 700,
            "width": 700,
            "neg_category_ids": (t["negative_labels"] + 1).tolist(),
            "not_exhaustive_category_ids": (t["not_exhaustive_labels"] + 1).tolist(),
        }
        for t in truths
    ]
    rows = []
    for of_images, more in ((truths, "area"), (results, "scores")):
        rows.append(
            [
                {
                    "image_id": truth["image_id"],
                    "category_id": int(label) + 1,
                    "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
                    more.removesuffix("s"): float(value),
                }
                for truth, one in zip(truths, of_images, strict=True)
                for label, box, value in zip(one["labels"], one["boxes"], one[more], strict=True)
            ]
        )
    categories = [
        {"id": n, "name": name, "frequency": frequency}
        for n, (name, frequency) in enumerate(zip(NAMES, FREQUENCY, strict=True), start=1)
    ]
    data = {"images": images, "annotations": rows[0], "categories": categories}
    for name, content in (("results", rows[1]), ("truth", data)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / "results.json", folder / "truth.json"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [300, 4])
def test_metric_files_and_own_matching_agree(tmp_path, seed, limit):
    scene = federated_scene(seed)
    for result in scene[0]:  # in float32 a file's numbers are others
        result["boxes"] = result["boxes"].astype(np.float64).round(1)
    metric, values = measured(scene, max_detections=limit)
    files = write(tmp_path, *scene)
    theirs = evaluate_files(*files, protocol="lvis", max_detections=limit)
    assert values == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    once = metric.resampled(np.ones((1, len(scene[1])), dtype=np.int64))
    assert {"AP", "AP50", "AP75", "APr", "APc", "APf", "AP/owl"} <= set(once)
    for name, value in once.items():
        assert value[0] == pytest.approx(values[name], abs=1e-12), name


def test_it_is_measured_again_from_its_rows():
    results, truths = federated_scene(5)
    metric, _ = measured((results, truths))
    assert isinstance(metric, HasAnalyses)
    assert isinstance(metric, HasResamples)
    assert metric.arguments()["frequency"] == FREQUENCY
    again = LvisMap(**metric.arguments())
    assert again.recompute(metric.computed_rows())["AP"] == float(metric.compute()["AP"])
    assert len(metric.analyses()) > 5
    damaged = dict(metric.computed_rows())
    damaged["searched"] = damaged["searched"].copy()
    damaged["searched"][1] = 9
    with pytest.raises(ValueError, match="searched: expected rows of its images and classes"):
        again.recompute(damaged)


def test_wrong_arguments_and_labels_are_refused():
    with pytest.raises(ValueError, match="frequency: expected one of r, c, f for each of 4"):
        LvisMap(NAMES, ["r"])
    with pytest.raises(ValueError, match="among them 'often'"):
        LvisMap(NAMES, ["r", "r", "c", "often"])
    with pytest.raises(ValueError, match="max_detections"):
        LvisMap(NAMES, FREQUENCY, max_detections=0)
    results, truths = federated_scene(1)
    truths[0]["negative_labels"] = np.array([4])
    with pytest.raises(ValueError, match="expected negative_labels of 0 to 3"):
        LvisMap(NAMES, FREQUENCY).update(results, truths)
