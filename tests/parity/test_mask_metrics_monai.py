"""Figures of single cases against MONAI, and where its averages must not be followed."""

from __future__ import annotations

import math

import monai.metrics as monai
import numpy as np
import pytest
import torch

from densekit.metrics import DiceScore, SurfaceDistances
from tests.unit.metrics.segmentation.mask_scenes import figures_of, mask_scene, one

NAMES = ["background", "a", "b"]
# MONAI keeps distances in float32: 6e-8 of what they are.
NEAR = {"rel": 1e-6, "abs": 1e-6}


def one_hot(mask: np.ndarray) -> torch.Tensor:
    """(*S) to (1, 3, *S); a pixel of value 255 is of no class."""
    return torch.from_numpy(np.stack([mask == k for k in range(3)])[None].astype(np.float32))


def monai_case(result, truth, tolerance: float) -> dict[str, float]:
    predicted = np.where(truth["mask"] == 255, 255, result["mask"])
    pair = (one_hot(predicted), one_hot(truth["mask"]))
    spacing = list(truth["spacing"])
    rows = {
        "dice": monai.compute_dice(*pair, include_background=False, ignore_empty=False),
        "HD95": monai.compute_hausdorff_distance(*pair, percentile=95, spacing=spacing),
        "ASSD": monai.compute_average_surface_distance(*pair, symmetric=True, spacing=spacing),
        "NSD": monai.compute_surface_dice(*pair, [tolerance] * 2, spacing=spacing),
    }
    return {
        f"{name}/{NAMES[k + 1]}": float(row[0, k]) for name, row in rows.items() for k in range(2)
    }


@pytest.mark.parametrize("ignored", [0.0, 0.05])
@pytest.mark.parametrize("dims", [2, 3])
def test_every_case_equals_monai(dims, ignored):
    tolerance = 1.5
    results, truths = mask_scene(20 + dims, 6, 3, dims, ignored)
    dice = DiceScore(NAMES, background=True)
    surfaces = SurfaceDistances(NAMES, background=True, tolerance=tolerance)
    means = figures_of(dice, results, truths) | figures_of(surfaces, results, truths)
    pairs = zip(results, truths, strict=True)
    expected = {t["image_id"]: monai_case(r, t, tolerance) for r, t in pairs}
    for ours in (dice.cases(), surfaces.cases()):
        for case in ours:
            theirs = expected[case["image_id"]]
            shared = {name: value for name, value in case.items() if name in theirs}
            assert len(shared) in (2, 6)
            assert shared == pytest.approx({name: theirs[name] for name in shared}, **NEAR)
    for name in next(iter(expected.values())):
        mean = np.mean([case[name] for case in expected.values()])
        assert means[name] == pytest.approx(mean, **NEAR)


def test_dice_of_empty_cases_as_monai_ignores_them():
    metric, theirs = DiceScore(["a"]), monai.DiceMetric(include_background=True)
    organ, nothing = np.eye(6, dtype=np.uint8), np.zeros((6, 6), np.uint8)
    for n, (truth, predicted) in enumerate([(organ, organ), (organ, nothing), (nothing, nothing)]):
        metric.update(*one(truth, predicted, image_id=n))
        theirs(*(torch.from_numpy(m[None, None]).float() for m in (predicted, truth)))
    assert float(metric.compute()["dice"]) == float(theirs.aggregate()) == 0.5
    assert float(metric.compute()["dice_empty/a"]) == 1


def test_a_missed_structure_which_monai_drops_is_not_perfect():
    organ = np.zeros((12, 9), np.uint8)
    organ[3:7, 2:6] = 1
    theirs = monai.HausdorffDistanceMetric(include_background=True, percentile=95)
    ours = SurfaceDistances(["organ"])
    for n, predicted in enumerate((organ, 0 * organ)):
        ours.update(*one(organ, predicted, image_id=n, spacing=(1.0, 1.0)))
        theirs(*(torch.from_numpy(m[None, None]).float() for m in (predicted, organ)))
    figures = {name: float(value) for name, value in ours.compute().items()}
    # MONAI: not a number for the missed one, and so the mean of both is that of the found one.
    assert torch.isnan(theirs.get_buffer()).flatten().tolist() == [False, True]
    assert float(theirs.aggregate()) == 0
    assert figures["HD95"] == pytest.approx(math.hypot(12, 9) / 2)
    assert figures["missed/organ"] == 1
    assert figures["NSD"] == 0.5
