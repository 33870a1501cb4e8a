"""Images of rare classes are drawn more often, the same in every process and after a resume."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from densekit.data import (
    CategoryScenes,
    ClassBalanced,
    CocoDetection,
    Dataset,
    RepeatFactors,
    Scenes,
    SemanticScenes,
    Source,
    Subset,
    TrainSampler,
)
from densekit.data.presence import labels_in_mask
from densekit.data.samplers import repeated
from densekit.ops import dist

CLASSES = [[0], [0], [0], [0, 1], [0, 0, 2], [], [0], [0, 2]]
"""The classes of the boxes of eight images."""


class Boxes(Dataset):
    """Images without pixels."""

    def __init__(self, classes: list[list[int]]) -> None:
        self.classes = classes

    def __len__(self) -> int:
        return len(self.classes)

    def describe(self):
        return {"names": ["a", "b", "c"], "ids": [0, 1, 2], "num_classes": 3, "channels": 3}

    def __getitem__(self, index):
        labels = np.asarray(self.classes[index], dtype=np.int64)
        return {"image": np.zeros((8, 8, 3), np.uint8), "labels": labels, "meta": {"path": "x"}}


def by_definition(classes: list[list[int]], threshold: float) -> list[float]:
    """The repeat factors as detectron2 computes them, class by class and image by image."""
    images_of: dict[int, int] = defaultdict(int)
    for labels in classes:
        for label in set(labels):
            images_of[label] += 1
    of_class = {
        label: max(1.0, math.sqrt(threshold / (count / len(classes))))
        for label, count in images_of.items()
    }
    return [max((of_class[label] for label in set(labels)), default=1.0) for labels in classes]


@pytest.mark.parametrize("threshold", [0.001, 0.5, 1.0])
def test_repeat_factors_are_those_of_the_paper(threshold):
    factors = RepeatFactors(threshold).factors(Boxes(CLASSES))
    assert factors.tolist() == pytest.approx(by_definition(CLASSES, threshold))
    if threshold == 0.5:  # of 8 images 7 show class 0, 1 shows 1, 2 show 2
        assert factors[[0, 3, 4, 5]].tolist() == pytest.approx([1, 2, math.sqrt(2), 1])


@pytest.mark.real
def test_repeat_factors_of_coco(folder):
    root = folder("coco_small")
    data = CocoDetection(root, "train2017", "annotations/instances_train2017.json")
    rows = np.split(data.annotations.labels, data.annotations.offsets[1:-1])
    factors = RepeatFactors(0.05).factors(data)
    assert factors.tolist() == pytest.approx(by_definition([r.tolist() for r in rows], 0.05))
    assert factors.max() > 2


def test_balanced_classes_are_drawn_equally_often():
    factors = ClassBalanced().factors(Boxes(CLASSES))
    assert factors.sum() == pytest.approx(8)
    # Classes 0, 1 and 2 have 7, 1 and 2 images; each class is drawn 8 / 3 times.
    assert factors[3] == pytest.approx(8 / 3 / 7 + 8 / 3)
    assert factors[4] == factors[7] == pytest.approx(8 / 3 / 7 + 8 / 3 / 2)
    assert factors[5] == 0
    one = ClassBalanced().factors(Boxes([[0]] * 9 + [[1]]))
    assert one[:9].sum() == pytest.approx(one[9]) == pytest.approx(5)


def test_classes_are_told_by_boxes_masks_and_categories():
    scenes, masks = Scenes(length=3, semantic_mask=True), SemanticScenes(length=3)
    assert set(scenes.labels_in(1)) == set(scenes[1]["labels"])
    assert set(masks.labels_in(1)) == set(np.unique(masks[1]["mask"])) - {0, 255}
    categories = CategoryScenes(length=3)
    assert categories.labels_in(2).tolist() == [int(categories[2]["category"])]
    assert Subset(scenes, [2, 1]).labels_in(1).tolist() == scenes.labels_in(1).tolist()


@pytest.mark.parametrize(
    ("described", "seen"),
    [
        ({"num_classes": 3, "background": True}, [1, 2]),
        ({"num_classes": 3, "background": False}, [0, 1, 2]),
        ({"num_classes": 1, "background": False}, [0]),
    ],
)
def test_labels_of_a_mask(described, seen):
    mask = np.asarray([[0, 1], [1 if described["num_classes"] == 1 else 2, 255]], np.uint8)
    assert labels_in_mask(mask, described).tolist() == seen


def test_an_image_without_targets_is_refused():
    class Bare(Boxes):
        def __getitem__(self, index):
            return {"image": np.zeros((8, 8, 3), np.uint8), "meta": {"path": "a.png"}}

    with pytest.raises(ValueError, match=r"a\.png: expected boxes, a mask or a category"):
        ClassBalanced().factors(Bare(CLASSES))
    with pytest.raises(ValueError, match="expected an image that shows a class"):
        ClassBalanced().factors(Boxes([[], []]))
    with pytest.raises(ValueError, match=r"RepeatFactors\.threshold: expected more than 0"):
        RepeatFactors(0)


def test_draws_are_rounded_factors_and_their_mean_is_the_factor():
    factors = np.asarray([0.25, 1.0, 1.5, 2.25, 3.0, 0.0, 1.1])  # the sum is 9.1
    totals, counts = Counter(), np.zeros(7)
    for epoch in range(2000):
        draws = repeated(factors, np.random.default_rng((0, epoch)))
        assert len(set(draws.tolist())) == len(draws)
        of_image = np.bincount(draws % 7, minlength=7)
        assert (np.abs(of_image - factors) < 1).all()
        assert set(draws[draws % 7 == 4]) == {4, 11, 18}
        totals[len(draws)] += 1
        counts += of_image
    assert set(totals) == {9, 10}
    assert counts / 2000 == pytest.approx(factors, abs=0.05)


@pytest.fixture
def factors():
    return np.asarray([1.0, 2.5, 0.5, 1.0] * 10)  # the sum is 50


def test_processes_share_the_draws_of_one(monkeypatch, factors):
    def batches(world, rank, groups=None):
        monkeypatch.setattr(dist, "world_size", lambda: world)
        monkeypatch.setattr(dist, "rank", lambda: rank)
        return list(TrainSampler(40, 8 // world, 3, groups, factors=factors))

    for groups in (None, np.arange(40) % 2):
        whole = batches(1, 0, groups)
        assert len(whole) == 6
        assert len({draw for batch in whole for draw in batch}) == 48
        for rank in range(2):
            assert batches(2, rank, groups) == [batch[rank::2] for batch in whole]


def test_a_pass_starts_anywhere_and_groups_stay_apart(factors):
    groups = np.arange(40) % 2
    sampler = TrainSampler(40, 8, 0, groups, factors=factors)
    sampler.go_to(0, 0, 18)
    everything = list(sampler)
    sampler.go_to(1, 4, 5)
    assert list(sampler) == everything[10:15]
    mixed = [len({groups[index % 40] for _, index, _ in batch}) > 1 for batch in everything]
    assert sum(mixed) <= 3


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        (np.ones(3), r"4 factors, got shape \(3,\)"),
        (np.asarray([1, np.nan, 1, 1]), "got nan to nan"),
        (np.asarray([1.0, -1, 1, 1]), "got -1.0 to 1.0"),
        (np.full(4, 0.2), "in total 0.8"),
    ],
)
def test_factors_that_are_none_are_refused(factors, said):
    with pytest.raises(ValueError, match=f"sampling: expected .*{said}"):
        TrainSampler(4, 2, 0, factors=factors)


def test_a_source_draws_by_its_sampling():
    data = Scenes("train", 12, size=(64, 64))
    source = Source(train=data, sampling=ClassBalanced(), batch_size=4, num_workers=0)
    loader = source.train_loader()
    assert len(loader) == 3
    assert [len(batch["image"]) for batch in loader] == [4, 4, 4]
    both = Source(train=data, sampling=ClassBalanced(), repeats=2, batch_size=4)
    with pytest.raises(ValueError, match="repeats: expected 1 beside factors"):
        both.train_loader()
