"""Clean-up of masks against MONAI's transforms, on random masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import KeepLargestConnectedComponent, RemoveSmallObjects
from numpy.typing import NDArray

from densekit.inference.components import components, drop_small, keep_largest

pytestmark = pytest.mark.parity

SHAPES = [(40, 60), (9, 20, 24)]


def random_mask(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Classes 0..3 in blobs of many sizes."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(
        np.random.default_rng(seed).normal(size=(4, *shape)), 1.2, axes=(-1, -2)
    )
    return noise.argmax(0).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_largest_component(shape: tuple[int, ...], seed: int) -> None:
    mask = random_mask(shape, seed)
    for value in (1, 2, 3):  # of equal ones MONAI keeps the last
        sizes = np.sort(components(mask == value)[1])
        assert len(sizes) > 1
        assert sizes[-1] > sizes[-2]
    for classes in ([1], [2, 3], [1, 2, 3]):
        expected = KeepLargestConnectedComponent(classes)(torch.from_numpy(mask.copy())[None])[0]
        np.testing.assert_array_equal(keep_largest(mask, classes), expected)


@pytest.mark.parametrize("min_size", [2, 9, 60])
@pytest.mark.parametrize("shape", SHAPES)
def test_small_components(shape: tuple[int, ...], min_size: int) -> None:
    mask = random_mask(shape, seed=7)
    remove = RemoveSmallObjects(min_size, connectivity=len(shape))
    expected = np.zeros_like(mask)
    for value in (1, 2, 3):  # MONAI numbers the components of a binary mask only
        kept = np.asarray(remove((mask == value).astype(np.uint8)[None])[0]).astype(bool)
        expected[kept] = value
    found = drop_small(mask, min_size, [1, 2, 3])
    np.testing.assert_array_equal(found, expected)
    assert (found != mask).any()
