"""Windows and padding of samples in any dimension."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data.transforms.geometry import crop, is_spatial, pad, select_boxes
from densekit.types import Sample


@pytest.mark.parametrize("sides", [(8,), (6, 7), (4, 5, 6)])
def test_padding_then_cropping_gives_the_sample_back(sides):
    random = np.random.default_rng(0)
    sample = Sample(
        image=random.random((*sides, 2), dtype=np.float32),
        mask=random.integers(0, 3, (3, *sides), dtype=np.uint8),
        extra={"map": random.random(sides)},
    )
    start, bigger = [1] * len(sides), [side + 3 for side in sides]
    padded = pad(sample, start, bigger, image_fill=np.asarray([1, 2]), extra_fills={"map": 9})
    assert padded["image"].shape == (*bigger, 2)
    assert padded["image"].reshape(-1, 2)[0].tolist() == [1, 2]
    assert padded["mask"].shape == (3, *bigger)
    assert padded["mask"].flat[0] == 255
    assert padded["extra"]["map"].flat[0] == 9
    back = crop(padded, start, sides, min_visible=0)
    for key in ("image", "mask"):
        np.testing.assert_array_equal(back[key], sample[key])
    np.testing.assert_array_equal(back["extra"]["map"], sample["extra"]["map"])


def test_boxes_are_padded_and_cropped_with_their_rows():
    sample = Sample(
        image=np.zeros((10, 20, 3), dtype=np.uint8),
        boxes=np.asarray([[2, 1, 8, 5], [15, 6, 20, 10]], dtype=np.float32),
        labels=np.asarray([1, 2]),
        instance_masks=np.ones((2, 10, 20), dtype=np.uint8),
    )
    padded = pad(sample, (2, 3), (14, 30), image_fill=np.asarray(0), extra_fills={})
    assert padded["boxes"].tolist() == [[5, 3, 11, 7], [18, 8, 23, 12]]
    assert padded["instance_masks"].shape == (2, 14, 30)
    out = crop(padded, (2, 3), (6, 12), min_visible=0.1)
    assert out["boxes"].tolist() == [[2, 1, 8, 5]]
    assert out["labels"].tolist() == [1]
    assert out["instance_masks"].shape == (1, 6, 12)


def test_what_is_a_map_of_a_volume():
    assert is_spatial(np.zeros((4, 5, 6)), (4, 5, 6))
    assert is_spatial(np.zeros((2, 4, 5, 6)), (4, 5, 6))
    assert not is_spatial(np.zeros((5, 6)), (4, 5, 6))
    assert not is_spatial(np.zeros(7), (5, 6))


def test_rows_of_a_volumes_targets_are_selected_and_maps_stay():
    sample = Sample(
        image=np.zeros((4, 5, 6, 1), dtype=np.float32),
        labels=np.arange(3),
        extra={"map": np.zeros((4, 5, 6)), "rows": np.arange(3)},
    )
    out = select_boxes(sample, np.asarray([True, False, True]))
    assert out["labels"].tolist() == out["extra"]["rows"].tolist() == [0, 2]
    assert out["extra"]["map"].shape == (4, 5, 6)
