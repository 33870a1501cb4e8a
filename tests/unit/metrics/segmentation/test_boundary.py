from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from densekit.metrics import BoundaryF, BoundaryIoU
from densekit.metrics.segmentation.boundary_iou import rim
from tests.unit.metrics.segmentation.mask_scenes import blobs, figures_of, one, shaken


def square(size: int, start: int, stop: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[start:stop, start:stop] = 1
    return mask


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_rim_is_what_square_erosions_take(width, dims):
    mask = blobs(np.random.default_rng(width), (24, 19, 15)[:dims], 2) == 1
    mask[(slice(0, 12),) * dims] = True
    eroded = binary_erosion(mask, np.ones((3,) * dims), iterations=width)
    assert eroded.any()
    np.testing.assert_array_equal(rim(mask, width), mask & ~eroded)


def test_boundary_iou_by_hand():
    # Diagonal 28.3, rims one pixel wide: 10 x 10 has 36, 8 x 8 inside of it has 28, none shared.
    found = figures_of(BoundaryIoU(["a"]), *one(square(20, 5, 15), square(20, 6, 14)))
    assert found == {"boundary_IoU": 0, "boundary_IoU/a": 0}
    # Two pixels wide: 36 + 28 and 28 + 20, of which 28 are shared.
    wide = BoundaryIoU(["a"], dilation_ratio=2 / 28)
    found = figures_of(wide, *one(square(20, 5, 15), square(20, 6, 14)))
    assert found["boundary_IoU"] == 28 / (64 + 48 - 28)


def test_boundary_iou_is_pooled_and_keeps_the_cases():
    metric = BoundaryIoU(["a", "b", "c"])
    metric.update(*one(square(20, 5, 15), square(20, 5, 15), image_id=1))
    # b is missed: rims of a are the frame's 76 pixels, and in truth 40 around b as well (the
    # corners of the square touch a's pixels too).
    found = figures_of(metric, *one(square(20, 5, 15), np.zeros((20, 20)), image_id=2))
    around = 12 * 12 - 10 * 10
    assert found["boundary_IoU/a"] == (76 + around + 76) / (2 * (76 + around))
    assert found["boundary_IoU/b"] == 36 / 72
    assert np.isnan(found["boundary_IoU/c"])
    assert found["boundary_IoU"] == (found["boundary_IoU/a"] + found["boundary_IoU/b"]) / 2
    assert [case["boundary_IoU/b"] for case in metric.cases()] == [1, 0]


def test_boundary_f_by_hand():
    # Contours of 36 and 28 pixels, one pixel apart: within 0.0075 of 28.3, which is 1 pixel,
    # lies everything but the four corners of the larger.
    found = figures_of(BoundaryF(["a"]), *one(square(20, 5, 15), square(20, 6, 14)))
    precision, recall = 1.0, 32 / 36
    assert found["boundary_F"] == pytest.approx(2 * precision * recall / (precision + recall))
    exact = BoundaryF(["a"], tolerance=0.0)
    assert figures_of(exact, *one(square(20, 5, 15), square(20, 6, 14)))["boundary_F"] == 0


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_boundary_f_is_that_of_contours_widened_by_a_disk(reach):
    rng = np.random.default_rng(reach)
    truth = blobs(rng, (40, 31), 2)
    predicted = shaken(rng, truth)
    contours = [m & ~binary_erosion(m, border_value=1) for m in (truth == 1, predicted == 1)]
    around = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    wide = [binary_dilation(contour, around) for contour in contours]
    recall, precision = ((contours[i] & wide[1 - i]).sum() / contours[i].sum() for i in range(2))
    metric = BoundaryF(["a"], tolerance=(reach - 0.5) / math.hypot(40, 31))
    found = figures_of(metric, *one(truth, predicted))["boundary_F"]
    assert found == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)


def test_boundary_f_of_classes_that_are_missed_invented_absent_or_everywhere():
    metric = BoundaryF(["a", "b", "c"])
    metric.update(*one(np.zeros((9, 9)), np.zeros((9, 9)), image_id=1))  # a everywhere
    metric.update(*one(np.zeros((9, 9)), np.ones((9, 9)), image_id=2))  # a missed, b invented
    found = figures_of(metric, *one(square(9, 3, 6), np.zeros((9, 9)), image_id=3))  # b missed
    assert [row["boundary_F/a"] for row in metric.cases()] == [1, 0, 0]
    assert found["boundary_F/b"] == 0
    assert np.isnan(found["boundary_F/c"])
    assert found["boundary_F"] == (1 + 0 + 0) / 3  # mean over images
