from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics.bootstrap import draws, interval, intervals, p_value


def test_every_draw_takes_as_many_groups_as_there_are():
    drawn = draws(["a", "a", "b", "c"], 50)
    assert drawn.shape == (50, 4)
    assert (drawn[:, 0] == drawn[:, 1]).all()  # two images of one patient
    assert (drawn[:, 1:].sum(axis=1) == 3).all()
    assert (draws(["a", "a", "b", "c"], 50) == drawn).all()
    assert (draws(["a", "a", "b", "c"], 50, seed=1) != drawn).any()
    assert draws([], 3).shape == (3, 0)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(1).normal(3, 2, 400)
    means = draws(range(400), 4000) @ values / 400
    low, high = interval(means)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_groups_widen_the_interval():
    patients = np.repeat(np.arange(40), 10)
    values = np.random.default_rng(0).normal(size=40)[patients]
    of_images, of_patients = (
        np.ptp(interval(draws(groups) @ values / 400)) for groups in (range(400), patients)
    )
    assert of_patients == pytest.approx(np.sqrt(10) * of_images, rel=0.1)


def test_what_is_seldom_measurable_has_no_interval():
    some = np.array([1.0, np.nan, np.nan])
    assert np.isnan(interval(some)).all()
    assert intervals({"a": some, "b": np.array([1.0, 2, np.nan])}).keys() == {"b"}


def test_p_values():
    normal = np.random.default_rng(0).normal(size=1999)
    assert p_value(normal) == pytest.approx(1, abs=0.1)
    assert p_value(normal + 1.96) == pytest.approx(0.05, abs=0.02)
    assert p_value(np.ones(999)) == p_value(-np.ones(999)) == 2 / 1000
    assert p_value(np.zeros(99)) == 1
    assert np.isnan(p_value(np.full(5, np.nan)))
