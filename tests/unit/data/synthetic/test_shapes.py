"""Pictures of one shape: the same every time, kept, refused where the shapes cannot be seen."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import ShapePictures


def test_a_picture_depends_on_seed_split_and_number_alone() -> None:
    data, again = ShapePictures("train", 50), ShapePictures("train", 7)
    data[3]
    for index in (6, 0):
        assert np.array_equal(data[index]["image"], again[index]["image"])
        assert data[index]["category"] == again[index]["category"]
    for other in (ShapePictures("test", 7), ShapePictures("train", 7, seed=1)):
        assert not np.array_equal(other[0]["image"], data[0]["image"])
    assert {int(data[i]["category"]) for i in range(50)} == set(range(5))


def test_a_sample_is_what_it_says() -> None:
    data = ShapePictures("val", 3, size=[12, 20])
    sample = data[2]
    assert sample["image"].shape == (12, 20, 3)
    assert sample["image"].dtype == np.uint8
    assert sample["truth"]["category"] == sample["category"]
    assert sample["truth"]["size"] == (12, 20)
    assert sample["meta"]["image_id"] == 2
    assert data.sizes.tolist() == [[12, 20]] * 3
    assert data.describe()["num_classes"] == 5


def test_what_a_transform_does_is_not_kept() -> None:
    data = ShapePictures("train", 1)
    before = data[0]["image"].copy()
    data[0]["image"][:] = 0
    assert np.array_equal(data[0]["image"], before)


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"got 'trian'; did you mean 'train'"):
        ShapePictures("trian")
    with pytest.raises(ValueError, match=r"at least 12, got \[8, 16\]"):
        ShapePictures(size=[8, 16])
    with pytest.raises(IndexError, match="expected 0 to 3, got 4"):
        ShapePictures("train", 4)[4]
