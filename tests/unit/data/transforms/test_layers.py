"""Masks in layers come back as they are, and move as planes do."""

from __future__ import annotations

import numpy as np

from densekit.data.transforms.layers import MOST, layered


def test_overlaps_and_unknown_masks_come_back() -> None:
    planes = np.zeros((6, 20, 30), np.uint8)
    planes[0, 2:9, 3:20] = planes[1, 5:12, 10:25] = planes[2, 15:, :5] = planes[3, 3:8, 3:8] = 1
    planes[4] = 255
    planes[5, :2], planes[5, 18:] = 1, 255
    layers = layered(planes)
    assert layers.layer.tolist() == [0, 1, 0, 1, 2, 3]
    assert (layers.planes(layers.maps) == planes).all()
    turned = layers.planes(layers.maps[:, ::-1, ::2])
    assert (turned == planes[:, ::-1, ::2]).all()


def test_more_objects_than_a_layer_has_values() -> None:
    planes = np.eye(900, dtype=np.uint8)[: MOST + 50].reshape(-1, 30, 30)
    layers = layered(planes)
    assert len(layers.maps) == 2
    assert layers.maps.max() == MOST
    assert (layers.planes(layers.maps) == planes).all()


def test_what_a_transform_makes_unknown_is_unknown_in_every_mask() -> None:
    planes = np.zeros((2, 4, 4), np.uint8)
    planes[0, 0, 0] = planes[1, 3, 3] = 1
    layers = layered(planes)
    maps = layers.maps.copy()
    maps[:, 1] = 255
    expected = planes.copy()
    expected[:, 1] = 255
    assert (layers.planes(maps) == expected).all()


def test_no_object() -> None:
    layers = layered(np.zeros((0, 4, 5), np.uint8))
    assert layers.maps.shape == (0, 4, 5)
    assert layers.planes(np.zeros((0, 2, 3), np.uint8)).shape == (0, 2, 3)
