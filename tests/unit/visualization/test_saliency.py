"""Maps over images: transparent where nothing speaks for the target, yellow where most does."""

from __future__ import annotations

import numpy as np

from densekit.visualization import draw_outline, draw_saliency, saliency_plane


def test_grey_where_nothing_is_salient_and_yellow_at_the_maximum() -> None:
    image = np.full((4, 4, 3), (90, 120, 150), np.uint8)
    saliency = np.zeros((4, 4))
    saliency[0, 0], saliency[3, 3] = 2.0, -5.0
    drawn = draw_saliency(image, saliency)
    assert drawn[3, 3].tolist() == drawn[1, 2].tolist() == [120] * 3
    red, green, blue = drawn[0, 0].tolist()
    assert red > 200 > blue
    assert green > 200
    assert (draw_saliency(image, np.zeros((4, 4))) == 120).all()


def test_an_outline_surrounds_its_region() -> None:
    image = np.full((500, 500, 3), 100, np.uint8)
    region = np.zeros((500, 500), bool)
    region[100:200, 300:400] = True
    drawn = draw_outline(image, region)
    changed = np.argwhere((drawn != 100).any(axis=2))
    assert changed.min(0).tolist() == [100, 300]
    assert changed.max(0).tolist() == [199, 399]
    assert (drawn[150, 350] == 100).all()
    assert (draw_outline(image, None) == 100).all()


def test_a_volume_is_shown_by_its_most_salient_slice() -> None:
    volume = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6, 1)
    saliency = np.zeros((4, 5, 6))
    saliency[2, 1, 1], saliency[3] = 1.0, -1.0
    picture, plane, region = saliency_plane(volume, saliency, saliency > 0)
    assert picture.shape == (5, 6, 3)
    assert region is not None
    assert plane.max() == 1
    assert region.sum() == 1
    elsewhere = np.zeros((4, 5, 6), bool)
    elsewhere[1, 2, 2] = True
    assert saliency_plane(volume, saliency, elsewhere)[1].max() == 0  # the region is seen


def test_large_images_and_series() -> None:
    picture, plane, region = saliency_plane(
        np.zeros((1280, 640, 3), np.uint8), np.ones((1280, 640)), None
    )
    assert picture.shape == (640, 320, 3)
    assert plane.shape == (640, 320)
    assert region is None
    picture, plane, _ = saliency_plane(np.random.rand(50, 2), np.arange(50.0), None)
    assert picture.shape[:2] == plane.shape == (240, 480)
    assert plane[0, -1] == 49
