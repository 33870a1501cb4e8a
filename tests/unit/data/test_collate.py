from __future__ import annotations

import numpy as np
import pytest
import torch

from densekit.data.collate import collate, target_slots
from densekit.data.object_masks import SIDE
from densekit.types import TargetSpec


def make(height, width, boxes, index=0, **targets):
    return {
        "image": np.full((height, width, 3), 7, dtype=np.uint8),
        "boxes": np.full((boxes, 4), 3, dtype=np.float32),
        "labels": np.full(boxes, 2),
        "crowd": np.zeros(boxes, dtype=bool),
        "index": index,
        "meta": {"path": f"{index}.png"},
        "truth": {"image_id": index},
    } | targets


@pytest.mark.parametrize(
    ("most", "slots"), [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (33, 64), (300, 512)]
)
def test_slots_are_few_sizes_and_drop_nothing(most, slots):
    assert target_slots(most) == slots


def test_shapes_types_and_padding():
    batch = collate([make(20, 30, 2, 5), make(25, 10, 9, 6)], training=False, valid=[True, False])
    assert batch["image"].shape == (2, 3, 25, 30)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert (batch["image"][0, :, :20, :30] == 7).all()
    assert batch["image"][0, :, 20:].sum() == 0
    assert batch["size"].tolist() == [[20, 30], [25, 10]]
    assert batch["size"].dtype == torch.int64
    assert batch["boxes"].shape == (2, 16, 4)
    assert batch["boxes"].dtype == torch.float32
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"][0].tolist() == [2, 2] + [0] * 14
    assert batch["boxes_valid"].sum(dim=1).tolist() == [2, 9]
    assert batch["crowd"].dtype == batch["boxes_valid"].dtype == torch.bool
    assert batch["sample_valid"].tolist() == [True, False]
    assert batch["key"].tolist() == [5, 6]
    assert [meta["path"] for meta in batch["meta"]] == ["5.png", "6.png"]
    assert [truth["image_id"] for truth in batch["truth"]] == [5, 6]


def test_training_drops_truth():
    batch = collate([make(20, 30, 0)], training=True)
    assert "truth" not in batch
    assert batch["boxes"].shape == (1, 8, 4)
    assert not batch["boxes_valid"].any()
    assert batch["sample_valid"].tolist() == [True]


def test_masks_are_padded_by_the_ignored_value():
    samples = [
        make(4, 6, n, instance_masks=np.ones((n, 4, 6), np.uint8), mask=np.ones((s, 4), np.uint8))
        for n, s in ((1, 4), (2, 4))
    ]
    samples[1]["image"] = samples[1]["image"][:3]
    samples[1]["instance_masks"] = samples[1]["instance_masks"][:, :3]
    samples[1]["mask"] = samples[1]["mask"][:3]
    batch = collate(samples, training=True)
    assert batch["object_masks"].shape == (2, 8, SIDE, SIDE)
    assert (batch["object_masks"][1, :2] == 1).all()
    assert (batch["object_masks"][1, 2:] == 255).all()
    assert (batch["mask"][1, 3] == 255).all()


def test_multi_label_masks_categories_and_identities():
    samples = [
        make(4, 6, 0, mask=np.ones((5, 4, 6), np.uint8), category=np.ones(3), identity=np.int64(9))
    ] * 2
    batch = collate(samples, training=True)
    assert batch["mask"].shape == (2, 5, 4, 6)
    assert batch["category"].shape == (2, 3)
    assert batch["identity"].tolist() == [9, 9]


def test_extra_targets_obey_their_spec():
    extra = {"ids": np.asarray([4, 5]), "depth": np.ones((2, 4, 6), dtype=np.float32)}
    specs = {"ids": TargetSpec(-1, True), "depth": TargetSpec(-9, False)}
    samples = [
        make(4, 6, 2, extra=extra),
        make(8, 6, 0, extra={"ids": np.zeros(0, int), "depth": np.ones((2, 8, 6), np.float32)}),
    ]
    batch = collate(samples, training=True, target_specs=specs)
    assert batch["extra"]["ids"].tolist() == [[4, 5] + [-1] * 6, [-1] * 8]
    assert batch["extra"]["depth"].shape == (2, 2, 8, 6)
    assert (batch["extra"]["depth"][0, :, 4:] == -9).all()
    with pytest.raises(ValueError, match="expected a TargetSpec for the extra target 'ids'"):
        collate(samples, training=True)


def test_samples_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"1\.png: .*'mask'"):
        collate([make(4, 6, 0), make(4, 6, 0, 1, mask=np.zeros((4, 6)))], training=True)
    grey = make(4, 6, 0) | {"image": np.zeros((4, 6, 1), np.uint8)}
    with pytest.raises(ValueError, match="channels"):
        collate([make(4, 6, 0), grey], training=True)
