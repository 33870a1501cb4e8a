"""The rules of `densekit plan` on figures whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densekit.app.planning.rules import (
    Network,
    held_axes,
    intensity_rule,
    propose,
    stems,
    target_spacing,
)
from densekit.data.fingerprint import Fingerprint
from densekit.data.reading.intensity import check_rule


def found(shapes, spacings, modalities=(), lowest=(0.0,), percentiles=((0.0, 1.0, 2.0),)):
    percentiles = np.asarray(percentiles, dtype=float)
    return Fingerprint(
        names=["background", "a"],
        background=True,
        shapes=np.asarray(shapes),
        spacings=np.asarray(spacings, dtype=float),
        shares=np.asarray([0.9, 0.1]),
        present=np.asarray([1, 1]),
        modalities=tuple(modalities),
        lowest=np.asarray(lowest),
        percentiles=percentiles,
        means=percentiles[:, 1],
        stds=percentiles[:, 2] - percentiles[:, 1],
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
    ("spacing", "skip_downsampling"),
    [
        ((1, 1, 1), (0, 0, 0)),
        ((4, 1, 1), (2, 0, 0)),
        ((3, 1, 1.2), (2, 0, 0)),
        ((1, 1, 2.2), (0, 0, 1)),
    ],
)
def test_coarse_axes_are_held(spacing, skip_downsampling) -> None:
    assert held_axes(spacing) == skip_downsampling


@pytest.mark.parametrize(
    ("shape", "skip_downsampling", "stem"),
    [
        ((35, 50, 36), (0, 0, 0), "full"),  # the hippocampus
        ((64, 64, 64), (0, 0, 0), "half"),
        ((100, 512, 512), (0, 0, 0), "imagenet"),
        ((20, 512, 512), (2, 0, 0), "half"),
        ((28, 512, 512), (2, 0, 0), "imagenet"),
        ((1, 512, 512), (4, 0, 0), "imagenet"),
    ],
)
def test_stem_goes_as_deep_as_the_volume_allows(shape, skip_downsampling, stem) -> None:
    assert stems(shape, skip_downsampling)[0] == stem


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


@pytest.mark.parametrize(
    ("budget", "stem", "batch"),
    [(5.0, "imagenet", 2), (2.0, "half", 2), (0.8, "full", 2), (0.55, "full", 1)],
)
def test_a_small_budget_takes_a_shallower_network_then_one_patch(budget, stem, batch) -> None:
    plan = propose(found([[160, 160, 160]] * 3, [[1, 1, 1]] * 3), 2, budget, by_voxels)
    assert plan.memory <= budget
    assert (plan.network.stem, plan.batch_size) == (stem, batch)


@pytest.mark.parametrize("budget", [0.0, 0.3, 0.53])
def test_a_budget_that_nothing_fits_is_refused(budget) -> None:
    given = found([[160, 160, 160]] * 3, [[1, 1, 1]] * 3)
    with pytest.raises(ValueError, match=rf"memory: expected at least 0\.54 GiB.* got {budget:g}"):
        propose(given, 10, budget, by_voxels)


@pytest.mark.parametrize(("cases", "epochs", "distance"), [(2, 10_000, 200), (2000, 80, 1)])
def test_a_run_has_ten_thousand_steps_and_fifty_validations(cases, epochs, distance) -> None:
    plan = propose(found([[35, 50, 36]] * 5, [[1, 1, 1]] * 5), cases, 2.0, by_voxels)
    assert (plan.epochs, plan.epochs_per_validation) == (epochs, distance)


CT = {"kind": "clip", "low": -100.0, "high": 240.0, "mean": 40.0, "std": 200.0}
SUV, HU = [0.1, 2.0, 19.0], [-100, 40, 240]


@pytest.mark.parametrize(
    ("modalities", "lowest", "percentiles", "expected"),
    [
        ((), [-1024], [HU], CT),  # only CT reaches such a value
        ((), [0], [SUV], {"kind": "zscore"}),
        ((), [-1024, 0], [HU, SUV], {"kind": "channels", "rules": [CT, {"kind": "zscore"}]}),
        (("PET", "CT"), [0, 0], [SUV, HU], {"kind": "channels", "rules": [{"kind": "zscore"}, CT]}),
        (("CT",), [0], [HU], CT),  # shifted by whoever stored it
        (("ct_portal", "ct_arterial"), [0, 0], [HU, HU], CT),
        (("NCCT",), [0], [HU], CT),
        (("T1", "FLAIR"), [-900, 0], [HU, SUV], {"kind": "zscore"}),
        (("MRI",), [-2000], [HU], {"kind": "zscore"}),
        (("OCT",), [0], [HU], {"kind": "zscore"}),
        (("noNorm",), [0], [HU], {"kind": "range", "low": 0.0, "high": 1.0}),
        (("CT",), [0], [[7, 7, 7]], {"kind": "zscore"}),  # a foreground of one value
    ],
)
def test_intensity_follows_what_each_channel_is(modalities, lowest, percentiles, expected) -> None:
    given = found([[64] * 3], [[1] * 3], modalities, lowest, percentiles)
    rule = intensity_rule(given)
    assert rule == expected
    assert check_rule(rule) == expected
