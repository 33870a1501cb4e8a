from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from densekit.data import Augment, Chain, LargeScaleJitter, Resize, Scenes
from densekit.types import Sample


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def sample():
    """40 x 60, three boxes, each with a mask of its pixels and an identity."""
    boxes = np.asarray([[0, 0, 10, 20], [30, 10, 60, 40], [20, 5, 21, 6]], dtype=np.float32)
    masks = np.zeros((3, 40, 60), dtype=np.uint8)
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    for mask, (x0, y0, x1, y1), value in zip(masks, boxes.astype(int), (80, 160, 240), strict=True):
        mask[y0:y1, x0:x1] = 1
        image[y0:y1, x0:x1] = value
    return Sample(
        image=image,
        boxes=boxes,
        labels=np.asarray([5, 6, 7]),
        crowd=np.asarray([False, True, False]),
        instance_masks=masks,
        mask=image[:, :, 0] // 80,
        index=4,
        meta={"path": "x"},
        extra={"identities": np.asarray([50, 60, 70]), "map": image[:, :, 0].copy()},
    )


def assert_aligned(sample):
    """Every box is the extent of its own mask, and rows of all targets belong together."""
    assert sample["image"].shape[:2] == sample["mask"].shape == sample["extra"]["map"].shape
    assert sample["instance_masks"].shape[1:] == sample["mask"].shape
    values = sample["labels"] - 4
    np.testing.assert_array_equal(sample["extra"]["identities"], sample["labels"] * 10)
    np.testing.assert_array_equal(sample["crowd"], sample["labels"] == 6)
    for box, mask, value in zip(sample["boxes"], sample["instance_masks"], values, strict=True):
        rows, columns = np.nonzero(mask == 1)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == pytest.approx(tight, abs=1e-5)
        assert (sample["mask"][mask == 1] == value).all()


def assert_boxes(sample, wanted):
    np.testing.assert_allclose(sample["boxes"], wanted, atol=1e-5)


def test_flip_by_hand(sample):
    out = Augment({"HorizontalFlip": {"p": 1}})(sample, rng())
    assert_boxes(out, [[50, 0, 60, 20], [0, 10, 30, 40], [39, 5, 40, 6]])
    assert_aligned(out)
    out = Augment({"VerticalFlip": {"p": 1}})(sample, rng())
    assert_boxes(out, [[0, 20, 10, 40], [30, 0, 60, 30], [20, 34, 21, 35]])
    assert_aligned(out)


def test_crop_by_hand_drops_everything_of_a_lost_box(sample):
    crop = {"Crop": {"x_min": 15, "y_min": 0, "x_max": 45, "y_max": 30, "p": 1}}
    out = Augment(crop)(sample, rng())
    assert out["labels"].tolist() == [6, 7]
    assert_boxes(out, [[15, 10, 30, 30], [5, 5, 6, 6]])
    assert_aligned(out)


def test_box_of_which_little_is_left_is_dropped(sample):
    crop = {"Crop": {"x_min": 0, "y_min": 0, "x_max": 32, "y_max": 40, "p": 1}}
    out = Augment(crop)(sample, rng())  # 2 of the second box's 30 columns
    assert out["labels"].tolist() == [5, 7]
    kept = Augment(crop, min_visible=0.01)(sample, rng())
    assert kept["labels"].tolist() == [5, 6, 7]


def test_given_sample_stays_untouched(sample):
    before = {key: np.array(sample[key]) for key in ("image", "boxes", "instance_masks")}
    both = Chain(
        {"a": Augment({"Rotate": {"p": 1}, "ColorJitter": {"p": 1}}), "b": Resize([20], 50)}
    )
    both(sample, rng())
    LargeScaleJitter((30, 30))(sample, rng())
    for key, array in before.items():
        np.testing.assert_array_equal(sample[key], array)


def test_boxes_are_not_lost_by_rounding():
    boxes = np.asarray(
        [
            [159.3, 0.1, 160, 0.9],
            [0, 0, 160, 160],
            [0.01, 0.01, 0.6, 3],
            [33.3333, 66.6667, 100, 160],
        ],
        dtype=np.float32,
    )
    image = np.zeros((160, 160, 3), dtype=np.uint8)
    thin = Sample(image=image, boxes=boxes, labels=np.arange(4), crowd=np.zeros(4, dtype=bool))
    for step in ("HorizontalFlip", "VerticalFlip", "Transpose"):
        out = Augment({step: {"p": 1}})(thin, rng())
        assert out["labels"].tolist() == [0, 1, 2, 3]
        assert (out["boxes"] >= 0).all()
        assert (out["boxes"] <= 160).all()


def test_pixels_that_a_rotation_invents_are_ignored(sample):
    out = Augment({"Rotate": {"limit": [45, 45], "border_mode": 0, "p": 1}})(sample, rng())
    assert out["mask"][0, 0] == 255


def test_image_without_boxes_or_masks(sample):
    empty = Scenes(length=2)[0]
    for key in ("boxes", "labels", "crowd"):
        empty[key] = empty[key][:0]
    empty["instance_masks"] = np.zeros((0, 160, 160), dtype=np.uint8)
    steps = {"HorizontalFlip": {"p": 1}, "RandomScale": {"p": 1}}
    out = Chain({"a": Augment(steps), "b": Resize([100], 200), "c": LargeScaleJitter((64, 64))})(
        empty, rng()
    )
    assert out["boxes"].shape == (0, 4)
    assert out["labels"].shape == (0,)
    assert out["instance_masks"].shape == (0, *out["image"].shape[:2])
    plain = Sample(image=sample["image"], mask=sample["mask"], index=0)
    assert set(Augment(steps)(plain, rng())) == {"image", "mask", "index"}


def test_draws_are_a_function_of_the_generator(sample):
    steps = {
        "HorizontalFlip": {"p": 0.5},
        "RandomSizedBBoxSafeCrop": {"height": 30, "width": 30, "p": 0.5},
        "OneOf": {"p": 0.5, "transforms": {"Blur": {}, "GaussNoise": {}}},
        "ColorJitter": {"p": 0.5},
    }
    one, two = Augment(steps), Augment(steps)
    for seed in (3, 1, 2):
        two(sample, rng(99 + seed))  # what came before does not matter
        np.testing.assert_array_equal(
            one(sample, rng(seed))["image"], two(sample, rng(seed))["image"]
        )
    images = [one(sample, rng(seed))["image"].tobytes() for seed in range(8)]
    assert len(set(images)) > 4


def test_steps_happen_independently_of_each_other(sample):
    both = Augment({"HorizontalFlip": {"p": 0.5}, "InvertImg": {"p": 0.5}})
    seen = set()
    for seed in range(40):
        out = both(sample, rng(seed))
        seen.add((out["boxes"][0, 0] > 25, out["image"].mean() > 127))
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"HorizontalFlop": {}},
            r"Augment\.steps \(albumentations\): .* 'HorizontalFlop'; .* mean 'HorizontalFlip'",
        ),
        ({"Compose": {"transforms": {}, "pp": 1}}, r"Augment\.steps\.Compose\.pp: expected one of"),
        (
            {"Blur": {"blur_limits": 3}},
            r"Blur\.blur_limits: expected one of blur_limit, p, got .* mean 'blur_limit'",
        ),
        (
            {"OneOf": {"transforms": {"Blurr": {}}}},
            r"OneOf\.transforms .* got 'Blurr'; did you mean 'Blur'",
        ),
        ({"RandomCrop": {}}, r"Augment\.steps\.RandomCrop: "),
        ({"os": {}}, r"got 'os'"),
    ],
)
def test_wrong_steps_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        Augment(steps)


def test_resize_scales_boxes_by_the_exact_ratio(sample):
    out = Resize([20], 1000)(sample, rng())
    assert out["image"].shape == (20, 30, 3)
    assert out["image"].dtype == np.uint8
    np.testing.assert_array_equal(out["boxes"], sample["boxes"] / 2)
    assert out["instance_masks"].shape == (3, 20, 30)
    assert out["extra"]["identities"].tolist() == [50, 60, 70]
    limited = Resize([40], 45)(sample, rng())
    assert limited["image"].shape[:2] == (30, 45)


def test_resize_draws_among_several_sides(sample):
    sides = {Resize([10, 20, 30], 999)(sample, rng(i))["image"].shape[0] for i in range(30)}
    assert sides == {10, 20, 30}
    with pytest.raises(ValueError, match=r"Resize\.max_size"):
        Resize([800], 600)
    with pytest.raises(ValueError, match=r"Resize\.min_sizes"):
        Resize(800, 1333)


def test_resize_equals_torchvision_on_grey_and_colour():
    import torch
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    random = rng().integers(0, 256, (53, 97, 3), dtype=np.uint8)
    peer = GeneralizedRCNNTransform(70, 110, [0, 0, 0], [1, 1, 1], size_divisible=1)
    wanted = peer([torch.from_numpy(random).permute(2, 0, 1).float()])[0].tensors[0]
    ours = Resize([70], 110)(Sample(image=random), rng())["image"]
    assert ours.shape[:2] == tuple(wanted.shape[1:])
    np.testing.assert_allclose(ours, wanted.permute(1, 2, 0).numpy(), atol=1.01)
    assert Resize([70], 110)(Sample(image=random[:, :, :1]), rng())["image"].shape[2] == 1


def test_large_scale_jitter_keeps_targets_aligned():
    data = Scenes("train", 20, instance_masks=True)
    jitter = LargeScaleJitter((100, 140), scale=(0.5, 2.0))
    shapes = set()
    for i in range(20):
        out = jitter(data[i], rng(i))
        height, width = out["image"].shape[:2]
        shapes.add((height, width))
        assert height <= 100
        assert width <= 140
        assert len(out["boxes"]) == len(out["labels"]) == len(out["instance_masks"])
        for box, mask in zip(out["boxes"], out["instance_masks"], strict=True):
            rows, columns = np.nonzero(mask)
            inside = box.min() > 0 and box[2] < width and box[3] < height
            if len(rows) and inside:  # a cut box need not be tight around what is left
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(box, tight, atol=2.1)
    assert len(shapes) > 5


def test_importing_the_package_does_not_import_albumentations():
    code = (
        "import sys; import densekit.data as d; d.Source, d.Augment, d.Scenes, d.CocoDetection;"
        "sys.exit('albumentations' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
