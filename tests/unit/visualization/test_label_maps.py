"""Small label maps show what was annotated and predicted where the two differ."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densekit.visualization.label_maps import SIDE, label_map


def planes(png: bytes) -> np.ndarray:
    """(2, H, W) annotation and prediction."""
    both = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return both.reshape(2, len(both) // 2, -1)


def test_small_masks_keep_every_pixel() -> None:
    truth = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    truth[0, 0] = 255
    predicted = (truth.astype(int) % 3).astype(np.int64)
    found = label_map(truth, predicted, 2)
    np.testing.assert_array_equal(planes(found.png), [truth, predicted])
    assert found.slice is None


def test_large_masks_shrink() -> None:
    truth = np.zeros((1000, 500), np.uint8)
    truth[500:] = 7
    shown = planes(label_map(truth, truth, 2).png)
    assert shown.shape == (2, SIDE, SIDE // 2)
    assert (shown[0, : SIDE // 2] == 0).all()
    assert (shown[0, SIDE // 2 :] == 7).all()


@pytest.mark.parametrize("wrong", [None, 1, 4])
def test_the_slice_of_a_volume_that_differs_most(wrong: int | None) -> None:
    truth = np.zeros((6, 8, 8), np.uint8)
    truth[2, 2:6, 2:6] = 1
    truth[5] = 255  # ignored, however it is predicted
    predicted = np.where(truth == 255, 1, truth)
    if wrong is not None:
        predicted[wrong, :3] = 2
    found = label_map(truth, predicted, 3)
    assert found.slice == (2 if wrong is None else wrong)
    np.testing.assert_array_equal(planes(found.png)[1], predicted[found.slice])


def test_labels_that_are_not_exclusive_are_bits() -> None:
    truth = np.zeros((9, 4, 4), np.uint8)
    truth[0, :2] = truth[2, :, :2] = truth[8] = 1
    truth[:, 3, 3] = 255
    shown = planes(label_map(truth, truth, 2).png)
    assert shown[0, 0, 0] == 1 + 4
    assert shown[0, 0, 3] == 1
    assert shown[0, 2, 3] == 0  # the ninth class is not kept
    assert shown[0, 3, 3] == 255
