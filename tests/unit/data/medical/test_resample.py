from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densekit.data.medical.resample import network_frame, resample, resample_mask, resampled_size
from densekit.inference.restore import restore_mask


def blob(shape):
    """A smooth ball in the unit cube, sampled at voxel centres."""
    axes = [(np.arange(n) + 0.5) / n for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = np.linalg.norm((grid - [0.5, 0.45, 0.55]) / [0.35, 0.3, 0.25], axis=-1)
    return np.exp(-(distance**2)).astype(np.float32)


def test_size_is_rounded_and_never_empty():
    assert resampled_size((10, 20, 3), (2.0, 0.5, 0.1), (1, 1, 1)) == (20, 10, 1)
    assert resampled_size((10, 20, 3), (2.0, 0.5, 0.1), (None, 1, None)) == (10, 10, 3)
    assert resampled_size((10, 20, 3), (2.0, 0.5, 0.1), None) == (10, 20, 3)


def test_growing_is_torchs_trilinear():
    image = np.random.default_rng(0).normal(size=(4, 6, 5, 2)).astype(np.float32)
    out = resample(image, (9, 6, 11))
    x = torch.from_numpy(image).movedim(-1, 0)[None]
    wanted = F.interpolate(x, (9, 6, 11), mode="trilinear", align_corners=False)[0].movedim(0, -1)
    np.testing.assert_allclose(out, wanted.numpy(), atol=1e-5)


def test_shrinking_averages_instead_of_dropping():
    stripes = np.tile(np.array([0.0, 1.0], dtype=np.float32), 20)[:, None, None, None]
    out = resample(np.broadcast_to(stripes, (40, 2, 2, 1)), (10, 2, 2))
    np.testing.assert_allclose(out, 0.5, atol=0.05)


def test_linear_field_keeps_its_place():
    # What stands at a place of the body stands there afterwards: no shift by half a voxel.
    z = (np.arange(30, dtype=np.float32) + 0.5) / 30
    image = np.broadcast_to(z[:, None, None, None], (30, 4, 4, 1))
    for count in (60, 17, 10):
        out = resample(image, (count, 4, 4))[:, 0, 0, 0]
        inner = slice(count // 10 + 1, -count // 10 - 1)
        np.testing.assert_allclose(out[inner], ((np.arange(count) + 0.5) / count)[inner], atol=3e-3)


@pytest.mark.parametrize("target", [(1.0, 1.0, 1.0), (2.5, 1.3, 0.7), (None, 1.2, 1.2)])
def test_masks_come_back_through_restore(target):
    image = blob((24, 40, 36))
    truth = (image > 0.4).astype(np.uint8)
    spacing = (2.0, 0.8, 0.9)
    frame = network_frame(image[..., None], spacing, None, target)
    logits = torch.from_numpy(frame[..., 0])[None] - 0.4
    mask = restore_mask(logits, truth.shape)
    assert mask.shape == truth.shape
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert dice > 0.97
    centre, wanted = np.argwhere(mask).mean(axis=0), np.argwhere(truth).mean(axis=0)
    np.testing.assert_allclose(centre, wanted, atol=0.1)


def test_mask_takes_the_nearest_centre():
    mask = np.arange(4, dtype=np.uint8)[:, None, None]
    assert resample_mask(mask, (8, 1, 1)).ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert resample_mask(mask, (2, 1, 1)).ravel().tolist() == [1, 3]
    planes = np.stack([mask, 255 - mask])
    assert resample_mask(planes, (3, 2, 2)).shape == (2, 3, 2, 2)


def test_nothing_to_do_returns_the_same_array():
    image = np.zeros((3, 4, 5, 1), dtype=np.float32)
    assert resample(image, (3, 4, 5)) is image


def test_intensity_is_that_of_the_stored_volume():
    image = np.random.default_rng(0).normal(50, 9, (8, 8, 8, 1)).astype(np.float32)
    out = network_frame(image, (1, 1, 1), {"kind": "zscore"}, (2, 2, 2))
    scaled = (image - image.mean()) / image.std()
    np.testing.assert_allclose(out, resample(scaled, (4, 4, 4)), atol=1e-5)
