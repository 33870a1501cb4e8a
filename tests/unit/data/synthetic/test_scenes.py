from __future__ import annotations

import numpy as np
import pytest

from densekit.data import CategoryScenes, Scenes, SemanticScenes, ShapePictures
from densekit.data.synthetic.canvas import MIN_VISIBLE


@pytest.fixture(scope="module")
def scenes():
    data = Scenes("val", 150, instance_masks=True, semantic_mask=True, identities=True)
    return data, [data[i] for i in range(len(data))]


def test_image_is_a_function_of_seed_split_and_index(scenes):
    data, samples = scenes
    again = Scenes("val", 9)
    np.testing.assert_array_equal(again[7]["image"], samples[7]["image"])
    np.testing.assert_array_equal(again[7]["boxes"], samples[7]["boxes"])
    for other in (Scenes("train", 9), Scenes("val", 9, seed=1)):
        assert (other[7]["image"] != samples[7]["image"]).any()
    assert (again[6]["image"] != again[7]["image"]).any()


def test_shares_are_as_promised(scenes):
    data, samples = scenes
    counts = [len(sample["labels"]) for sample in samples]
    assert min(counts) >= 3
    assert max(counts) <= 12
    area = np.concatenate([sample["truth"]["area"] for sample in samples]) / (160 * 160)
    assert 0.25 <= (area < 0.01).mean() <= 0.40
    visible = np.concatenate([data.visibility(i) for i in range(len(data))])
    assert 0.25 <= (visible < 0.95).mean() <= 0.40
    assert visible.min() >= MIN_VISIBLE
    labels = np.concatenate([sample["labels"] for sample in samples])
    assert len(np.unique(labels)) == data.describe()["num_classes"] == 5


def test_targets_agree_with_each_other(scenes):
    _, samples = scenes
    for sample in samples[:30]:
        masks, labels = sample["instance_masks"], sample["labels"]
        for mask, box, label in zip(masks, sample["boxes"], labels, strict=True):
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == tight
            assert (sample["mask"][mask == 1] == label + 1).all()
        np.testing.assert_array_equal(masks.any(axis=0), sample["mask"] > 0)
        assert (masks.sum(axis=0) <= 1).all()
        np.testing.assert_array_equal(sample["extra"]["identities"] // 16, labels)


@pytest.mark.parametrize("kind", [Scenes, SemanticScenes, CategoryScenes, ShapePictures])
@pytest.mark.parametrize("length", [-4, 0])
def test_a_data_set_without_pictures_is_refused(kind, length):
    message = f"{kind.__name__}.length: expected at least 1 image, got {length}"
    with pytest.raises(ValueError, match=message):
        kind("train", length)


def test_size_and_number_of_objects_are_parameters():
    sample = Scenes("train", 3, size=(96, 200), objects=(2, 2))[1]
    assert sample["image"].shape == (96, 200, 3)
    assert sample["image"].dtype == np.uint8
    assert len(sample["boxes"]) == 2
    assert "instance_masks" not in sample


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"Scenes\.split.*did you mean 'train'"):
        Scenes("trian")
    with pytest.raises(ValueError, match=r"Scenes\.size"):
        Scenes(size=(10, 10))
    with pytest.raises(ValueError, match=r"Scenes\.objects"):
        Scenes(objects=(5, 2))
    with pytest.raises(IndexError):
        Scenes(length=3)[3]


def test_semantic_scenes_tell_what_their_masks_say(scenes):
    data = SemanticScenes("val", 9)
    sample, described = data[7], data.describe()
    np.testing.assert_array_equal(sample["mask"], scenes[1][7]["mask"])
    np.testing.assert_array_equal(sample["truth"]["mask"], sample["mask"])
    assert described["num_classes"] == len(described["names"]) == 6
    assert described["names"][0] == "background"
    assert described["background"]
