"""Masks in the frames of their boxes: each bin shows the pixel in which its centre lies."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data.object_masks import SIDE, in_image, object_masks


def test_every_bin_is_the_pixel_at_its_centre() -> None:
    planes = np.random.default_rng(0).integers(0, 3, (2, 40, 60), dtype=np.uint8)
    planes[planes == 2] = 255
    boxes = np.array([[3.3, 5.6, 31.2, 39.9], [0, 0, 60, 40]], np.float32)
    sampled = object_masks(planes, boxes)
    assert sampled.shape == (2, SIDE, SIDE)
    assert sampled.dtype == np.uint8
    for mask, plane, (x1, y1, x2, y2) in zip(sampled, planes, boxes.astype(float), strict=True):
        for i in range(0, SIDE, 5):
            for j in range(0, SIDE, 7):
                y, x = y1 + (i + 0.5) / SIDE * (y2 - y1), x1 + (j + 0.5) / SIDE * (x2 - x1)
                assert mask[i, j] == plane[int(y), int(x)]


@pytest.mark.parametrize("box", [[59.999, 39.999, 60, 40], [10, 10, 10.001, 40], [0, 0, 1, 1]])
def test_a_thin_box_shows_pixels_of_the_image(box: list[float]) -> None:
    planes = np.ones((1, 40, 60), np.uint8)
    assert (object_masks(planes, np.array([box], np.float32)) == 1).all()


def test_a_rectangle_fills_its_box_at_any_side() -> None:
    plane = np.zeros((1, 30, 30), np.uint8)
    plane[0, 4:20, 6:9] = 1
    for side in (1, 3, 16, 112):
        assert (object_masks(plane, np.array([[6, 4, 9, 20]], np.float32), side) == 1).all()


def test_no_object() -> None:
    masks = object_masks(np.zeros((0, 5, 6), np.uint8), np.zeros((0, 4), np.float32))
    assert masks.shape == (0, SIDE, SIDE)


def test_planes_and_frames_are_inverse() -> None:
    planes = np.zeros((3, 50, 70), np.uint8)
    planes[0, 5:30, 10:41], planes[1, 49, 69], planes[2, 3:40, 7:50] = 1, 1, 255
    planes[0, 11:15, 13:20] = 0
    boxes = np.array([[10, 5, 41, 30], [69, 49, 70, 50], [7, 3, 50, 40]], np.float32)
    back = list(in_image(object_masks(planes, boxes), boxes, (50, 70)))
    assert (np.stack(back) == planes).all()
    thin = np.array([[10.1, 5, 10.2, 9]], np.float32)  # contains no centre of a pixel
    (plane,) = in_image(np.ones((1, 4, 4), np.uint8), thin, (20, 20))
    assert not plane.any()
