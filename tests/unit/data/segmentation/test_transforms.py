"""Masks go where their images go: every class keeps its colour through the training transforms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densekit.data import Augment, Chain, LargeScaleJitter, Resize
from densekit.data.collate import collate
from densekit.data.transforms.geometry import resize
from densekit.types import check_batch


@pytest.fixture
def sample():
    """96 x 128, blocks of the classes 1 and 3; the image is white where the mask is 3."""
    blocks = np.random.default_rng(0).integers(0, 2, (12, 16)).astype(np.uint8)
    white = blocks.repeat(8, axis=0).repeat(8, axis=1)
    image = np.repeat(white[:, :, None] * 254, 3, axis=2)
    meta = {"path": "x", "original_size": white.shape}
    return {"image": image, "mask": 1 + 2 * white, "index": 0, "meta": meta}


def agreement(out):
    """Share of the pixels that are as bright as their class; greys at a border may be either."""
    shade = out["image"][:, :, 0].astype(int)
    use = (out["mask"] != 255) & (np.abs(shade - 127) > 10)
    return ((shade > 127) == (out["mask"] == 3))[use].mean()


def chain(size=(64, 80)):
    return Chain(
        {
            "resize": Resize([80, 110], 200),
            "jitter": LargeScaleJitter(size, (0.9, 2.0)),
            "augment": Augment(
                {
                    "HorizontalFlip": {"p": 0.5},
                    "RandomScale": {"scale_limit": [-0.2, 0.5], "p": 1},
                    "Rotate": {"limit": [-20, 20], "p": 0.5},
                    "RandomCrop": {"height": 48, "width": 48},
                }
            ),
        }
    )


@pytest.mark.parametrize("seed", range(6))
def test_chain_carries_the_mask(sample, seed):
    out = chain()(sample, np.random.default_rng(seed))
    assert out["image"].shape[:2] == out["mask"].shape == (48, 48)
    assert out["mask"].dtype == np.uint8
    assert set(np.unique(out["mask"])) <= {1, 3, 255}
    assert agreement(out) > 0.93  # each of the four rounds the borders anew


def test_chain_carries_every_plane_of_a_multi_label_mask(sample):
    several = {**sample, "mask": (sample["mask"] == np.arange(4)[:, None, None]).astype(np.uint8)}
    out = chain()(several, np.random.default_rng(3))
    single = chain()(sample, np.random.default_rng(3))
    inside = single["mask"] != 255
    for label, plane in enumerate(out["mask"]):
        np.testing.assert_array_equal(plane[inside] == 1, single["mask"][inside] == label)
    batch = collate([out], training=True)
    check_batch(batch)
    assert batch["mask"].shape == (1, 4, 48, 48)


@pytest.mark.parametrize(
    "step",
    [
        Resize([61], 300),
        LargeScaleJitter([96, 128], (0.5, 2.0)),
        Augment({"Resize": {"height": 61, "width": 83}}),
        Augment({"RandomScale": {"scale_limit": [0.3, 0.3], "p": 1}}),
        Augment({"RandomResizedCrop": {"size": [96, 96], "scale": [0.3, 1.0]}}),
    ],
)
def test_resized_masks_do_not_shift(sample, step):
    # With plain INTER_NEAREST, whose pixels are off by half, the third gives 0.92.
    assert agreement(step(sample, np.random.default_rng(0))) > 0.995


def test_augment_resizes_masks_as_our_own_resize_does(sample):
    mine = resize(sample, (61, 83))["mask"]
    theirs = Augment({"Resize": {"height": 61, "width": 83}})(sample, np.random.default_rng(0))
    assert (mine != theirs["mask"]).mean() < 0.01


@pytest.mark.parametrize(
    "arguments",
    [{"mask_interpolation": cv2.INTER_LINEAR}, {"area_for_downscale": "image_mask"}],
)
def test_classes_are_never_mixed(arguments):
    with pytest.raises(ValueError, match=r"Augment\.steps\.Resize: expected nearest interpolation"):
        Augment({"Resize": {"height": 8, "width": 8, **arguments}})


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_any_number_of_channels(sample, channels):
    image = np.repeat(sample["image"][:, :, :1], channels, axis=2).astype(np.float32)
    out = chain()({**sample, "image": image}, np.random.default_rng(1))
    assert out["image"].shape == (48, 48, channels)
    assert out["image"].dtype == np.float32
    assert agreement(out) > 0.93
