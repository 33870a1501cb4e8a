"""Augment on samples that have masks and no boxes: pixels of image and mask move together."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import Augment
from densekit.types import Sample

STEPS = {
    "HorizontalFlip": {"p": 1},
    "RandomResizedCrop": {"size": [30, 34], "scale": [0.4, 0.8], "p": 1},
    "Affine": {"rotate": [30, 30], "scale": [0.8, 0.8], "translate_px": [5, 5], "p": 1},
    "ElasticTransform": {"alpha": 20, "sigma": 5, "p": 1},
}


def make(dtype, multilabel=False):
    """Three bands of well separated intensities, one class each."""
    classes = np.repeat(np.arange(3, dtype=np.uint8), [14, 12, 14])[:, None].repeat(40, axis=1)
    classes[:, 25:] = np.roll(classes[:, 25:], 9, axis=0)
    levels = np.asarray([40, 120, 200] if dtype == np.uint8 else [-3.0, 0.5, 4.0], dtype=dtype)
    image = np.repeat(levels[classes][..., None], 3, axis=-1)
    mask = np.stack([classes == k for k in range(3)]).astype(np.uint8) if multilabel else classes
    return Sample(image=image, mask=mask, index=0), levels


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("step", STEPS)
def test_mask_follows_the_image(step, dtype, multilabel):
    sample, levels = make(dtype, multilabel)
    before = {key: sample[key].copy() for key in ("image", "mask")}
    out = Augment({step: STEPS[step]})(sample, np.random.default_rng(3))
    assert set(out) == {"image", "mask", "index"}
    assert out["image"].dtype == dtype
    assert out["mask"].dtype == np.uint8
    assert out["mask"].shape == ((3,) if multilabel else ()) + out["image"].shape[:2]
    assert set(np.unique(out["mask"])) <= {0, 1, 255} | (set() if multilabel else {2})
    known = (out["mask"] != 255).reshape(-1, *out["image"].shape[:2]).all(axis=0)
    assert known.mean() > 0.4
    if multilabel:
        assert (out["mask"][:, known].sum(axis=0) == 1).all()
    classes = out["mask"].argmax(axis=0) if multilabel else out["mask"]
    # Only between two bands may the image be a mixture.
    distance = np.abs(out["image"][..., :1].astype(np.float32) - levels).argmin(axis=-1)
    assert (distance[known] == classes[known]).mean() > 0.93
    assert len(set(classes[known])) == 3
    for key, array in before.items():
        np.testing.assert_array_equal(sample[key], array)


@pytest.mark.parametrize("multilabel", [False, True])
def test_flip_is_exact(multilabel):
    sample, _ = make(np.float32, multilabel)
    out = Augment({"HorizontalFlip": {"p": 1}})(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(out["mask"], sample["mask"][..., ::-1])
    np.testing.assert_array_equal(out["image"], sample["image"][:, ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixels_that_an_affine_invents_are_ignored(dtype):
    for multilabel in (False, True):
        sample, _ = make(dtype, multilabel)
        shift = {"Affine": {"translate_px": [10, 10], "p": 1}}
        out = Augment(shift)(sample, np.random.default_rng(0))
        assert (out["mask"][..., :10] == 255).all()
        assert (out["mask"][..., :10, :] == 255).all()
        np.testing.assert_array_equal(out["mask"][..., 10:, 10:], sample["mask"][..., :-10, :-10])


def test_many_labels_and_one_channel():
    sample, _ = make(np.float32)
    sample["image"] = sample["image"][..., :1]
    sample["mask"] = np.random.default_rng(0).integers(0, 2, (19, 40, 40), dtype=np.uint8)
    out = Augment({"HorizontalFlip": {"p": 1}, "Affine": {"rotate": [90, 90], "p": 1}})(
        sample, np.random.default_rng(0)
    )
    assert out["image"].shape == (40, 40, 1)
    assert out["mask"].shape == (19, 40, 40)
    assert (out["mask"] == 255).mean() < 0.1
