"""Mosaic, mixup of boxes and copy-paste: images mixed with others of their data set."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from densekit.data import Augment, BoxMixUp, Chain, CopyPaste, Mosaic, Scenes, Source
from densekit.data.transforms.copy_paste import paste
from densekit.data.transforms.partners import Partners, apply_steps
from densekit.testing import check_transform

RNG = np.random.default_rng


def picture(size=(20, 30), boxes=((2, 3, 12, 13),), value=50, label=1, **entries):
    """A picture of one value with white boxes, masks of both kinds, and rows of a plug-in."""
    image = np.full((*size, 3), value, np.uint8)
    masks = np.zeros((len(boxes), *size), np.uint8)
    for row, (x1, y1, x2, y2) in enumerate(boxes):
        masks[row, y1:y2, x1:x2] = 1
        image[y1:y2, x1:x2] = 255
    sample = {
        "image": image,
        "boxes": np.asarray(boxes, np.float32).reshape(-1, 4),
        "labels": np.full(len(boxes), label),
        "crowd": np.zeros(len(boxes), bool),
        "instance_masks": masks,
        "mask": np.where(masks.any(0), label, 0).astype(np.uint8),
        "extra": {"row": np.full(len(boxes), value)},
        "meta": {"path": f"{value}.png"},
    }
    return {**sample, **entries}


def yolox(four, size, centre):
    """The mosaic of YOLOX, drawn on a canvas of twice the size, and its middle."""
    height, width = size
    canvas, boxes = np.full((2 * height, 2 * width, 3), 114, np.uint8), []
    for number, sample in enumerate(four):
        h0, w0 = sample["image"].shape[:2]
        scale = min(height / h0, width / w0)
        h, w = round(h0 * scale), round(w0 * scale)
        image = cv2.resize(sample["image"], (w, h), interpolation=cv2.INTER_LINEAR)
        top = centre[0] - h if number < 2 else centre[0]
        left = centre[1] - w if number in (0, 2) else centre[1]
        rows = slice(max(top, 0), min(top + h, 2 * height))
        columns = slice(max(left, 0), min(left + w, 2 * width))
        canvas[rows, columns] = image[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        boxes.append(sample["boxes"] * ([w / w0, h / h0] * 2) + [left, top] * 2)
    middle = canvas[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
    moved = np.concatenate(boxes) - [width // 2, height // 2] * 2
    return middle, np.clip(moved, 0, [width, height] * 2)


@pytest.mark.parametrize("seed", range(4))
def test_mosaic_is_that_of_yolox(seed):
    size, rng = (48, 64), RNG(seed)
    four = [
        picture(tuple(rng.integers(20, 90, 2)), ((1, 1, 15, 16), (4, 8, 19, 20)), 40 + 40 * n, n)
        for n in range(4)
    ]
    mixed = Mosaic(size, (1, 1), min_visible=0.0).mix(four[0], RNG(seed), Partners(four))
    rng = RNG(seed)
    rng.random()
    drawn = [four[0], *(four[int(rng.integers(4))] for _ in range(3))]
    offset = [rng.uniform(-0.5, 0.5) for _ in size]
    centre = [round(side * (0.5 + o)) + side // 2 for side, o in zip(size, offset, strict=True)]
    image, boxes = yolox(drawn, size, centre)
    np.testing.assert_array_equal(mixed["image"], image)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
    np.testing.assert_allclose(mixed["boxes"], boxes[seen], atol=1e-4)
    labels = np.concatenate([sample["labels"] for sample in drawn])
    assert mixed["labels"].tolist() == labels[seen].tolist()
    assert (mixed["extra"]["row"] == 40 + 40 * mixed["labels"]).all()
    assert (image[mixed["mask"] == 255] == 114).all()


def test_boxes_of_a_mosaic_follow_their_pixels():
    data = [picture((40 + n, 60), ((10, 8, 26, 24), (30, 20, 50, 36)), 10 * n) for n in range(5)]
    data[2]["crowd"][:] = True
    for seed in range(20):
        mixed = Mosaic([64, 64], (0.5, 1.5)).mix(data[0], RNG(seed), Partners(data))
        assert mixed["image"].shape == (64, 64, 3)
        assert len(mixed["boxes"]) == len(mixed["labels"]) == len(mixed["instance_masks"])
        assert (mixed["crowd"] == (mixed["extra"]["row"] == 20)).all()
        for box, mask in zip(mixed["boxes"], mixed["instance_masks"], strict=True):
            x1, y1, x2, y2 = np.rint(box).astype(int)
            inner = (slice(y1 + 2, y2 - 2), slice(x1 + 2, x2 - 2))
            assert (mixed["image"][inner] == 255).all()
            assert mask[inner].all()
            mask = mask.copy()
            mask[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = 0
            assert not mask.any()


def test_mixup_of_boxes_is_the_mean_with_the_boxes_of_both():
    first, other = picture(value=50), picture(value=100, label=2)
    del first["mask"], other["mask"]
    mixed = BoxMixUp((1, 1)).mix(first, RNG(0), Partners([other]))
    assert mixed["image"][0, 0, 0] == 75
    assert mixed["labels"].tolist() == [1, 2]
    assert mixed["boxes"].tolist() == [[2, 3, 12, 13]] * 2
    assert mixed["instance_masks"].sum((1, 2)).tolist() == [100, 100]
    smaller = BoxMixUp((0.5, 0.5), own=0.75).mix(first, RNG(1), Partners([other]))
    assert smaller["image"].shape == first["image"].shape
    x1, y1, x2, y2 = smaller["boxes"][1]
    assert (x2 - x1, y2 - y1) == pytest.approx((5, 5))
    without = np.unique(smaller["image"])
    assert {66, 62} <= set(without.tolist())  # 50 with 114, 50 with 100
    empty = picture(boxes=(), value=0)
    del empty["mask"]
    assert BoxMixUp().mix(empty, RNG(0), Partners([other])) is empty
    assert BoxMixUp().mix(first, RNG(0), Partners([empty])) is first


def test_pasted_objects_hide_what_is_behind():
    below = picture(boxes=((0, 0, 10, 10), (20, 0, 24, 4), (0, 12, 8, 20)), value=10)
    below["instance_masks"][2] = 0  # a broken outline
    above = picture(boxes=((5, 0, 15, 10), (20, 0, 30, 8)), value=90, label=3)
    above["image"][above["mask"] == 3] = 200
    mixed = paste(below, above)
    assert mixed["boxes"].tolist() == [
        [0, 0, 5, 10],  # half of it is left
        [0, 12, 8, 20],
        [5, 0, 15, 10],
        [20, 0, 30, 8],
    ]
    assert mixed["labels"].tolist() == [1, 1, 3, 3]
    assert mixed["instance_masks"].sum((1, 2)).tolist() == [50, 0, 100, 80]
    assert (mixed["instance_masks"].sum(0) <= 1).all()
    assert mixed["mask"][0].tolist() == [1] * 5 + [3] * 10 + [0] * 5 + [3] * 10
    assert (mixed["image"][0, [0, 6, 25], 0] == [255, 200, 200]).all()
    assert len(paste(below, above, min_visible=0.6)["boxes"]) == 3
    assert below["instance_masks"][0].sum() == 100


def test_a_smaller_image_is_pasted_and_crowds_are_not():
    other = picture((10, 12), ((0, 0, 4, 4), (5, 5, 9, 9)), 90, 2)
    other["crowd"][0] = True
    mixed = CopyPaste().mix(picture(), RNG(0), Partners([other]))
    assert mixed["labels"].tolist() == [1, 2]
    assert mixed["instance_masks"].shape == (2, 20, 30)
    other["crowd"][:] = True
    first = picture()
    assert CopyPaste().mix(first, RNG(0), Partners([other])) is first
    assert CopyPaste(probability=0).mix(first, RNG(0), Partners([other])) is first


@pytest.mark.parametrize(
    ("transform", "entries", "said"),
    [
        (CopyPaste(), {"instance_masks": None}, "expected instance masks, got none in 50.png"),
        (BoxMixUp(), {}, "that can be mixed, such as boxes, got mask in 50.png"),
        (Mosaic([8, 8]), {"category": np.asarray(0)}, "got category in 50.png"),
        (Mosaic([8, 8]), {"extra": {"depth": np.zeros((20, 30))}}, "got extra/depth in 50.png"),
        (Mosaic([8, 8]), {"image": np.zeros((8, 3))}, "expected images of height and width"),
        (Mosaic([8, 8]), {"boxes": None, "mask": None}, "got neither boxes nor a mask"),
    ],
)
def test_targets_that_cannot_be_mixed_are_refused(transform, entries, said):
    sample = {k: value for k, value in {**picture(), **entries}.items() if value is not None}
    with pytest.raises(ValueError, match=said):
        transform.mix(sample, RNG(0), Partners([sample]))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Mosaic(64), r"Mosaic\.size: expected height and width, got 64"),
        (lambda: Mosaic([64, 64], [1.5, 0.5]), r"Mosaic\.zoom: expected a smallest"),
        (lambda: BoxMixUp(own=2), r"BoxMixUp\.own: expected 0 to 1, got 2"),
        (lambda: CopyPaste(probability=-1), r"CopyPaste\.probability: expected 0 to 1"),
        (lambda: Source(train=Scenes(), mixed_epochs=-1), "mixed_epochs: expected at least 0"),
    ],
)
def test_invalid_settings_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()


@pytest.mark.parametrize("transform", [Mosaic([64, 64]), BoxMixUp(), CopyPaste()])
def test_keeps_the_contract_of_transforms(transform):
    check_transform(transform, Scenes(length=3, size=(64, 80), instance_masks=True))


def test_others_pass_the_steps_before_that_do_not_mix():
    def marks(sample, rng):
        return {**sample, "image": sample["image"] + 1}

    class Sees(Mosaic):
        def mix(self, sample, rng, partners):
            other = partners.draw(rng)
            return {**sample, "seen": [*sample.get("seen", []), other["image"][0, 0, 0]]}

    see = Sees([8, 8])
    chain = Chain({"a": see, "b": Chain({"c": marks, "d": see}), "e": marks, "f": see})
    sample = picture(value=50)
    assert apply_steps(chain, sample, RNG(0), [sample])["seen"] == [50, 51, 52]
    assert "seen" not in apply_steps(chain, sample, RNG(0), None)
    assert chain(sample, RNG(0))["image"][0, 0, 0] == 52


def test_workers_and_epochs_draw_the_same_and_the_last_epochs_are_not_mixed():
    data = Scenes("train", 6, size=(64, 64), instance_masks=True)
    flip = Augment({"HorizontalFlip": {"p": 0.5}})
    steps = {"flip": flip, "mosaic": Mosaic([64, 64]), "mixup": BoxMixUp(), "paste": CopyPaste()}

    def images(workers, steps=steps, mixed_epochs=2):
        chain = Chain(steps)
        source = Source(
            train=data, train_transform=chain, mixed_epochs=mixed_epochs, num_workers=workers
        )
        loader = source.train_loader()
        return [batch["image"] for _ in range(3) for batch in loader]

    here = images(0)
    assert all(torch.equal(a, b) for a, b in zip(here, images(2), strict=True))
    plain = images(0, {"flip": flip})
    assert [torch.equal(a, b) for a, b in zip(here, plain, strict=True)] == [False, False, True]
    assert [torch.equal(a, b) for a, b in zip(plain, images(0, mixed_epochs=0), strict=True)]
