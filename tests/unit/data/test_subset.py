"""Some images of a data set: which ones, and what they still say of themselves."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import (
    RandomSubset,
    Repeat,
    Scenes,
    SemanticScenes,
    Source,
    Split,
    SplitRule,
    Subset,
    class_frequencies,
)


def test_positions_choose_and_order():
    data = Scenes(length=6)
    some = Subset(data, [4, 1])
    assert len(some) == 2
    np.testing.assert_array_equal(some[0]["image"], data[4]["image"])
    assert some[1]["index"] == 1
    assert some.sizes.tolist() == data.sizes[[4, 1]].tolist()
    assert some.describe() == data.describe()
    assert some.target_specs == data.target_specs


def test_fewer_are_part_of_more_and_seeds_differ():
    data = Scenes(length=120)
    drawn = {(n, s): RandomSubset(data, n, s).positions for n in (10, 50, 120) for s in range(3)}
    for seed in range(3):
        few, more, all_of_them = (set(drawn[n, seed]) for n in (10, 50, 120))
        assert few < more < all_of_them == set(range(120))
        assert sorted(drawn[50, seed]) == list(drawn[50, seed])
    assert len({tuple(drawn[10, seed]) for seed in range(3)}) == 3
    assert RandomSubset(data, 10, 1).positions.tolist() == drawn[10, 1].tolist()


def test_a_repeated_subset_trains():
    data = SemanticScenes(length=20)
    few = RandomSubset(data, 3)
    source = Source(Repeat(few, 4), test=data, heads=["segmentation"], batch_size=4)
    batches = list(source.train_loader())
    assert len(batches) == 3
    shown = {meta["image_id"] for batch in batches for meta in batch["meta"]}
    assert shown == {data[int(i)]["meta"]["image_id"] for i in few.positions}
    masks = np.stack([data[int(i)]["mask"] for i in few.positions])
    assert list(class_frequencies(few).values()) == np.bincount(masks.ravel()).tolist()


def test_copies_of_an_image_stay_on_one_side():
    data = Repeat(RandomSubset(Scenes(length=22), 11), 3)
    parts = [Split(data, split, SplitRule(every=5)) for split in ("train", "val")]
    train, val = ({part[i]["meta"]["image_id"] for i in range(len(part))} for part in parts)
    assert train
    assert val
    assert not train & val
    assert len(parts[0]) + len(parts[1]) == len(data)


@pytest.mark.parametrize("positions", [[], [5], [-1], [0.5]])
def test_positions_without_an_image(positions):
    with pytest.raises(ValueError, match="positions: expected whole numbers from 0 to 4"):
        Subset(Scenes(length=5), positions)


@pytest.mark.parametrize("num_images", [0, 6])
def test_not_so_many(num_images):
    with pytest.raises(ValueError, match=rf"num_images: expected 1 to 5, got {num_images}"):
        RandomSubset(Scenes(length=5), num_images)


def test_a_source_draws_training_images_alone():
    data = Scenes(length=20)
    few, more = (Source(data, test=data, num_train_images=n, seed=3) for n in (4, 12))
    assert few.train.positions.tolist() == RandomSubset(data, 4, 3).positions.tolist()
    assert set(few.train.positions) < set(more.train.positions)
    assert len(few.test) == 20
    with pytest.raises(ValueError, match=r"^num_train_images: expected 1 to 20, got 21$"):
        Source(data, num_train_images=21)
