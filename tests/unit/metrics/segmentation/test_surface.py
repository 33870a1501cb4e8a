from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from densekit.metrics import SurfaceDistances
from densekit.metrics.segmentation.surfaces import border, crop
from tests.unit.metrics.segmentation.mask_scenes import blobs, figures_of, one, shaken


def box(size, *sides) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[tuple(slice(*side) for side in sides)] = 1
    return mask


def test_a_moved_box_by_hand():
    truth, predicted = (box((20, 20), (5, 10), (start, start + 6)) for start in (4, 6))
    found = figures_of(SurfaceDistances(["organ"]), *one(truth, predicted, spacing=(1.0, 3.0)))
    # Two columns stick out: the 5 pixels of the outer one are 2 steps away from the other border,
    # the 2 of the other one 1 step; the top and bottom rows of the 4 shared columns (8 pixels) lie
    # on it, and the 3 inner pixels of the far column lie between its rows. The same from there.
    distances = np.array([6.0] * 5 + [3.0] * 2 + [0.0] * 8 + [1.0, 2.0, 1.0])
    assert found["ASSD"] == pytest.approx(distances.mean(), abs=1e-12)
    assert found["HD95"] == pytest.approx(np.percentile(distances, 95), abs=1e-12)
    assert found["NSD"] == pytest.approx((distances <= 1).mean(), abs=1e-12)
    assert [found[f"{kind}/organ"] for kind in ("missed", "invented", "surface_empty")] == [0, 0, 0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("percentile", [50.0, 95.0, 100.0])
def test_against_distance_transforms_of_the_whole_image(dims, percentile):
    rng = np.random.default_rng(dims)
    truth = blobs(rng, (22, 17, 14)[:dims], 2)
    predicted, spacing = shaken(rng, truth), (0.7, 1.3, 2.9)[:dims]
    borders = [m & ~binary_erosion(m) for m in (truth > 0, predicted > 0)]
    fields = [distance_transform_edt(~b, sampling=spacing) for b in borders]
    there, back = fields[0][borders[1]], fields[1][borders[0]]
    both = np.concatenate((there, back))
    metric = SurfaceDistances(["organ"], tolerance=1.3, percentile=percentile)
    found = figures_of(metric, *one(truth, predicted, spacing=spacing))
    assert found[f"HD{percentile:g}"] == pytest.approx(
        max(np.percentile(there, percentile), np.percentile(back, percentile)), abs=1e-9
    )
    assert found["ASSD"] == pytest.approx(both.mean(), abs=1e-9)
    assert found["NSD"] == pytest.approx((both <= 1.3 + 1e-9).mean(), abs=1e-9)


@pytest.mark.parametrize("kind", ["missed", "invented"])
def test_what_was_missed_or_invented_is_never_perfect(kind):
    size, spacing = (10, 12, 6), (1.0, 0.5, 4.0)
    organ, nothing = box(size, (2, 5), (3, 8), (1, 4)), np.zeros(size, np.uint8)
    pair = (organ, nothing) if kind == "missed" else (nothing, organ)
    metric = SurfaceDistances(["organ"])
    metric.update(*one(organ, organ, image_id=1, spacing=spacing))
    found = figures_of(metric, *one(*pair, image_id=2, spacing=spacing))
    diagonal = math.sqrt(10**2 + 6**2 + 24**2)
    assert found["HD95"] == found["ASSD/organ"] == pytest.approx(diagonal / 2)
    assert found["NSD"] == 1 / 2
    assert (found["missed/organ"], found["invented/organ"]) == (kind == "missed", kind != "missed")
    case = metric.cases()[1]
    assert case[f"{kind}/organ"] == 1
    assert case["HD95/organ"] == pytest.approx(diagonal)
    assert case["NSD/organ"] == 0


def test_no_distance_exceeds_what_a_missed_structure_costs():
    truth, predicted = box((9, 30), (0, 1), (0, 1)), box((9, 30), (8, 9), (29, 30))
    apart = figures_of(SurfaceDistances(["a"]), *one(truth, predicted))["HD95"]
    missed = figures_of(SurfaceDistances(["a"]), *one(truth, 0 * predicted))["HD95"]
    assert apart == pytest.approx(math.hypot(8, 29))
    assert apart < missed == pytest.approx(math.hypot(9, 30))


def test_a_case_without_the_structure_is_counted_and_left_out():
    organ = box((8, 8), (2, 5), (2, 5))
    metric = SurfaceDistances(["background", "organ"], background=True)
    metric.update(*one(0 * organ, 0 * organ, image_id=1))
    found = figures_of(metric, *one(organ, organ, image_id=2))
    assert (found["HD95"], found["ASSD"], found["NSD"]) == (0, 0, 1)
    assert found["surface_empty/organ"] == 1
    assert not any("background" in name for name in found)
    assert np.isnan(metric.cases()[0]["HD95/organ"])


def test_the_tolerance_reaches_a_step_of_a_spacing_that_a_file_rounded():
    spacing = (float(np.float32(0.8)),) * 2  # 0.800000011920929
    truth, predicted = box((9, 9), (4, 5), (4, 5)), box((9, 9), (4, 5), (5, 6))
    for tolerance, nsd in ((0.8, 1), (0.79, 0)):
        metric = SurfaceDistances(["a"], tolerance=tolerance)
        assert figures_of(metric, *one(truth, predicted, spacing=spacing))["NSD"] == nsd


def test_each_structure_has_its_tolerance():
    truth, predicted = np.zeros((2, 9, 20), np.uint8)
    truth[4, [4, 14]] = predicted[4, [5, 15]] = 1, 2
    tolerance = {"a": 1, "b": 0.5}
    metric = SurfaceDistances(["background", "a", "b"], background=True, tolerance=tolerance)
    found = figures_of(metric, *one(truth, predicted, spacing=(1.0, 1.0)))
    assert (found["NSD/a"], found["NSD/b"]) == (1, 0)


def test_missing_spacing_is_said_once(caplog):
    organ = box((8, 8), (2, 5), (2, 5))
    metric = SurfaceDistances(["organ"])
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            metric.update(*one(organ, organ, image_id=n))
    assert [record.message for record in caplog.records] == [
        "SurfaceDistances: image 0 has no spacing: distances are in pixels, and so is the "
        "tolerance, for every image without one"
    ]


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("size", [(9,), (9, 11), (7, 6, 5)])
def test_borders_are_what_an_erosion_takes(size, beyond):
    mask = np.random.default_rng(1).random(size) < 0.8
    expected = mask & ~binary_erosion(mask, border_value=beyond)
    np.testing.assert_array_equal(border(mask, beyond=beyond), expected)
    cut, _ = crop(mask & (np.indices(size)[0] > 3), np.zeros(size, bool))
    assert cut.shape[0] == size[0] - 3


def test_nothing_set_is_cut_to_nothing():
    cut = crop(np.zeros((4, 5), bool), np.zeros((4, 5), bool))
    assert [part.size for part in cut] == [0, 0]
