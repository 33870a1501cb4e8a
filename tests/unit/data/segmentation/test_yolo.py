from __future__ import annotations

import numpy as np
import pytest

from densekit.data import YoloSemantic

LARGE = "0 .25 .25 .75 .25 .75 .75 .25 .75"
SMALL = "2 .4 .4 .6 .4 .6 .6 .4 .6"


@pytest.fixture
def root(tmp_path, write_image):
    write_image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"{SMALL}\n{LARGE}\n0 .05 .05 .1 .1")
    (tmp_path / "data.yaml").write_text("names: [road, sky, car]\ntrain: images")
    return tmp_path


def test_small_polygons_lie_on_top_and_boxes_alone_are_ignored(root):
    data = YoloSemantic(root, "train")
    mask = data.mask(0)
    assert np.unique(mask, return_counts=True)[1].tolist() == [1776, 504, 96, 24]
    assert (mask[20, 30], mask[12, 20], mask[0, 0], mask[39, 59]) == (3, 1, 255, 0)
    assert data.describe()["names"] == ["background", "road", "sky", "car"]
    assert data.describe()["ids"] == [
        0,
        1,
        2,
        3,
    ]  # class numbers start at 0, where the background is


def test_classes_that_are_not_named_are_background(root):
    data = YoloSemantic(root, names=["car"])
    assert np.unique(data.mask(0)).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"YoloSemantic\.names: .* got 'cat'; did you mean 'car'"):
        YoloSemantic(root, names=["cat"])
