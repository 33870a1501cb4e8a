"""The rules of `densekit plan` on figures whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densekit.app.planning import Network, choose_stem, held_axes, propose, target_spacing
from densekit.data.fingerprint import Fingerprint


def found(shapes, spacings, lowest=0.0, percentiles=((0.0, 1.0, 2.0),)):
    return Fingerprint(
        names=["background", "a"],
        background=True,
        shapes=np.asarray(shapes),
        spacings=np.asarray(spacings, dtype=float),
        shares=np.asarray([0.9, 0.1]),
        present=np.asarray([1, 1]),
        lowest=lowest,
        percentiles=np.asarray(percentiles),
    )


def by_voxels(network: Network, patch: tuple[int, ...], batch: int) -> float:
    return 0.5 + batch * math.prod(patch) / 1e6


def test_spacing_is_the_median() -> None:
    given = found([[30, 30, 30]] * 3, [[1, 1, 1], [1, 2, 1], [1, 2, 3]])
    assert target_spacing(given) == (1, 2, 1)


def test_far_slices_take_the_finest_tenth_but_no_finer_than_the_plane() -> None:
    spacings = [[5.0, 1, 1]] * 8 + [[0.5, 1, 1]] * 2
    assert target_spacing(found([[20, 200, 200]] * 10, spacings)) == (1, 1, 1)
    spacings = [[5.0, 1, 1]] * 8 + [[4.0, 1, 1]] * 2
    assert target_spacing(found([[20, 200, 200]] * 10, spacings)) == (4, 1, 1)


@pytest.mark.parametrize(
    ("spacing", "hold"),
    [
        ((1, 1, 1), (0, 0, 0)),
        ((4, 1, 1), (2, 0, 0)),
        ((3, 1, 1.2), (2, 0, 0)),
        ((1, 1, 2.2), (0, 0, 1)),
    ],
)
def test_coarse_axes_are_held(spacing, hold) -> None:
    assert held_axes(spacing) == hold


@pytest.mark.parametrize(
    ("shape", "hold", "stem"),
    [
        ((35, 50, 36), (0, 0, 0), "full"),  # the hippocampus
        ((64, 64, 64), (0, 0, 0), "half"),
        ((100, 512, 512), (0, 0, 0), "imagenet"),
        ((20, 512, 512), (2, 0, 0), "half"),
        ((28, 512, 512), (2, 0, 0), "imagenet"),
        ((1, 512, 512), (4, 0, 0), "imagenet"),
    ],
)
def test_stem_goes_as_deep_as_the_volume_allows(shape, hold, stem) -> None:
    assert choose_stem(shape, hold) == stem


def test_small_volumes_are_taken_whole_and_the_batch_fills_the_memory() -> None:
    plan = propose(found([[35, 50, 36]] * 5, [[1, 1, 1]] * 5), 1000, 2.0, by_voxels)
    assert plan.patch == (40, 56, 40)
    assert plan.batch_size == 16
    assert plan.memory <= 2.0
    assert plan.intensity == {"kind": "zscore"}


def test_few_volumes_limit_the_batch() -> None:
    plan = propose(found([[35, 50, 36]] * 5, [[1, 1, 1]] * 5), 10, 100.0, by_voxels)
    assert plan.batch_size == 2
    plan = propose(found([[35, 50, 36]] * 5, [[1, 1, 1]] * 5), 200, 100.0, by_voxels)
    assert plan.batch_size == 7  # a twentieth of the voxels


def test_large_volumes_are_cut_along_their_longest_axis_until_two_fit() -> None:
    plan = propose(found([[128, 512, 512]] * 5, [[1, 1, 1]] * 5), 100, 8.0, by_voxels)
    assert plan.memory <= 8.0
    strides = plan.network.strides
    assert all(side % stride == 0 for side, stride in zip(plan.patch, strides, strict=True))
    assert plan.patch[1] == plan.patch[2] > plan.patch[0] >= 96


def test_ct_is_cut_to_the_window_of_its_foreground() -> None:
    given = found([[64] * 3], [[1] * 3], lowest=-1024, percentiles=[[-100, 40, 240]])
    plan = propose(given, 10, 8.0, by_voxels)
    assert plan.intensity == {"kind": "window", "level": 70.0, "width": 340.0}
