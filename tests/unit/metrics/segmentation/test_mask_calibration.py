"""Calibration, thresholds and suspects of masks, against torchmetrics, MONAI and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from densekit.inference.pixel_probabilities import PixelProbabilities
from densekit.inference.restore import restore_mask
from densekit.metrics import MaskCalibration
from densekit.testing import check_metric
from densekit.types import PIXELS, Result, Truth

SIZE = (13, 17)


def images(classes: int, multilabel: bool = False, count: int = 4) -> tuple[list[Result], Any]:
    """Random logits and masks, some of them void."""
    draw = torch.Generator().manual_seed(classes)
    results, truth = [], []
    for image in range(count):
        logits = 3 * torch.randn(classes, *SIZE, generator=draw)
        top = 2 if multilabel or classes == 1 else classes
        shape = (classes, *SIZE) if multilabel else SIZE
        mask = torch.randint(top, shape, generator=draw).to(torch.uint8).numpy()
        mask[..., 0, :3] = 255
        results.append(result_of(logits, multilabel))
        truth.append(Truth(image_id=10 + image, mask=mask))
    return results, truth


def result_of(logits: torch.Tensor, multilabel: bool = False, axes: Any = None) -> Result:
    sides = tuple(logits.shape[1:])
    pixels = PixelProbabilities(logits, sides, multilabel, axes)
    return {"mask": restore_mask(logits, sides, multilabel), PIXELS: pixels}


def measured(metric: MaskCalibration, results: list[Result], truth: Any) -> dict[str, float]:
    metric.update(results, truth)
    return {name: float(value) for name, value in metric.compute().items()}


def joined(results: list[Result], truth: Any) -> tuple[torch.Tensor, torch.Tensor]:
    probabilities = [torch.cat([p for _, p in r[PIXELS].parts()], 1).flatten(1) for r in results]
    masks = [torch.from_numpy(t["mask"]).long() for t in truth]
    return torch.cat(probabilities, 1), torch.cat([m.reshape(-1) for m in masks])


def test_exclusive_classes_equal_torchmetrics() -> None:
    results, truth = images(5)
    found = measured(MaskCalibration(list("abcde")), results, truth)
    probabilities, mask = joined(results, truth)
    expected = multiclass_calibration_error(
        probabilities.T, mask, num_classes=5, n_bins=20, ignore_index=255
    )
    assert found["ECE"] == pytest.approx(float(expected), abs=1e-6)
    of_images = [joined([r], [t]) for r, t in zip(results, truth, strict=True)]
    errors = [
        float(multiclass_calibration_error(p.T, m, num_classes=5, n_bins=20, ignore_index=255))
        for p, m in of_images
    ]
    assert found["ECE_per_image"] == pytest.approx(np.mean(errors), abs=1e-6)
    assert list(found) == ["ECE", "ECE_per_image"]


def test_independent_classes_equal_torchmetrics() -> None:
    results, truth = images(1)
    found = measured(MaskCalibration(["a"]), results, truth)
    probabilities, mask = joined(results, truth)
    expected = binary_calibration_error(probabilities[0], mask, n_bins=20, ignore_index=255)
    assert found["ECE"] == found["ECE/a"] == pytest.approx(float(expected), abs=1e-6)
    several, of_several = images(3, multilabel=True)
    found = measured(MaskCalibration(list("abc"), multilabel=True), several, of_several)
    for label, name in enumerate("abc"):
        planes = [Truth(image_id=0, mask=t["mask"][label]) for t in of_several]
        probabilities, mask = joined(several, planes)
        expected = binary_calibration_error(probabilities[label], mask, n_bins=20, ignore_index=255)
        assert found[f"ECE/{name}"] == pytest.approx(float(expected), abs=1e-6)
    assert found["ECE"] == pytest.approx(np.mean([found[f"ECE/{n}"] for n in "abc"]))


@pytest.mark.slow  # MONAI takes seconds to import
def test_error_per_image_equals_monai() -> None:
    calibration = pytest.importorskip("monai.metrics.calibration", reason="densekit[medical]")
    results, truth = images(3, multilabel=True)
    for one in truth:
        one["mask"][one["mask"] == 255] = 0
    found = measured(MaskCalibration(list("abc"), multilabel=True), results, truth)
    theirs = calibration.CalibrationErrorMetric(num_bins=20)
    for result, one in zip(results, truth, strict=True):
        (probabilities,) = (p for _, p in result[PIXELS].parts())
        theirs(y_pred=probabilities[None], y=torch.from_numpy(one["mask"])[None])
    assert found["ECE_per_image"] == pytest.approx(float(theirs.aggregate()), abs=1e-5)


def test_best_threshold_is_that_of_a_search() -> None:
    results, truth = images(1)
    for result, one in zip(results, truth, strict=True):  # a network that is too timid
        logits = torch.from_numpy(np.where(one["mask"] == 1, 0.0, -3.0)).float()[None]
        noise = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(1))
        result |= result_of(logits + noise)
    metric = MaskCalibration(["a"])
    measured(metric, results, truth)
    best = metric.facts()["best_thresholds"]["overall"]
    probabilities, mask = joined(results, truth)
    there = mask != 255
    likely, true = probabilities[0][there], mask[there] == 1

    def dice(threshold: float) -> float:
        kept = likely > threshold
        return float(2 * (kept & true).sum() / (kept.sum() + true.sum()))

    assert dice(best) == pytest.approx(max(dice(step / 100) for step in range(100)), abs=1e-9)
    assert best < 0.4
    strict = MaskCalibration(["a"], min_precision=0.99)
    measured(strict, results, truth)
    asked = strict.facts()["best_thresholds"]["overall"]
    kept = likely > asked
    assert float((kept & true).sum() / kept.sum()) >= 0.99
    assert asked > best


def test_exclusive_classes_have_no_threshold() -> None:
    metric = MaskCalibration(list("ab"), background=True)
    measured(metric, *images(2))
    assert metric.facts() == {}


def test_resampled_equals_counting_twice() -> None:
    results, truth = images(2, multilabel=True)
    metric = MaskCalibration(list("ab"), multilabel=True)
    measured(metric, results, truth)
    draws = np.array([[2, 0, 1, 1]])
    found = metric.resampled(draws)
    table = metric.computed()[1]
    expected = metric.aggregate_rows(np.repeat(table, draws[0], axis=0))
    assert {name: float(v[0]) for name, v in found.items()} == pytest.approx(expected)


def test_a_missing_structure_is_the_first_suspect() -> None:
    logits = torch.full((2, 20, 30), 0.0)
    logits[0], logits[1] = 4, -4
    logits[:, 5:9, 10:16] *= -1  # class 1 with certainty
    unlabelled = np.zeros((20, 30), np.uint8)
    labelled = unlabelled.copy()
    labelled[5:9, 10:16] = 1
    metric = MaskCalibration(["background", "cell"], background=True)
    truth = [Truth(image_id=1, mask=labelled), Truth(image_id=2, mask=unlabelled)]
    measured(metric, [result_of(logits)] * 2, truth)
    (suspect,) = metric.suspects()
    assert suspect.image_id == 2
    assert suspect.box == (10, 5, 16, 9)
    assert suspect.confidence == pytest.approx(torch.sigmoid(torch.tensor(8.0)).item(), abs=1e-3)
    assert suspect.reason == "'background' annotated where 'cell' is predicted"


def test_suspects_of_turned_volumes_are_in_the_frame_of_the_file() -> None:
    axes = ((2, True), (1, False), (0, False))  # of the network: x reversed, y, z
    there = torch.full((1, 8, 6, 4), -5.0)
    there[:, 1:3, 2:5, 0:2] = 5
    pixels = PixelProbabilities(there, (8, 6, 4), False, axes)
    mask = np.zeros((4, 6, 8), np.uint8)
    pixels.view(mask)[1:3, 2:5, 0:2] = 1
    result: Result = {"mask": mask, PIXELS: pixels}
    metric = MaskCalibration(["lesion"])
    found = measured(metric, [result], [Truth(image_id=1, mask=mask.copy())])
    assert found["ECE"] < 0.01
    metric.reset()
    measured(metric, [result], [Truth(image_id=1, mask=np.zeros_like(mask))])
    (suspect,) = metric.suspects()
    assert suspect.box == (5, 2, 7, 5)
    assert suspect.reason == "nothing annotated where 'lesion' is predicted, slices 0 to 1"


def test_what_the_network_had_right_is_no_suspect() -> None:
    """A clean-up removed a structure; a low threshold decides for pixels that are unlikely."""
    classes = torch.tensor([-4.0, 4.0]).view(2, 1, 1).expand(2, 6, 6)
    cleaned = result_of(classes) | {"mask": np.zeros((6, 6), np.uint8)}
    unlikely = torch.full((1, 6, 6), -3.0)
    low = result_of(unlikely) | {"mask": np.ones((6, 6), np.uint8)}
    truth = np.ones((6, 6), np.uint8)
    for names, result, mask in ((["a", "b"], cleaned, truth), (["a"], low, 0 * truth)):
        metric = MaskCalibration(names)
        measured(metric, [result], [Truth(image_id=1, mask=mask)])
        assert metric.suspects() == []


def test_results_without_probabilities_are_nan(caplog: pytest.LogCaptureFixture) -> None:
    _, truth = images(2)
    found = measured(MaskCalibration(list("ab")), [{"mask": np.zeros(SIZE, np.uint8)}] * 4, truth)
    assert np.isnan(found["ECE"])
    assert "no probabilities of their pixels" in caplog.text


@pytest.mark.slow
def test_contract() -> None:
    results, truth = images(3, multilabel=True)
    check_metric(MaskCalibration(list("abc"), multilabel=True), results, truth, list("abc"))
