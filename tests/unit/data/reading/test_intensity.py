from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from densekit.data import MedicalVolumes
from densekit.data.reading.images import ImageReader
from densekit.data.reading.intensity import check_rule, fitted, kinds, percentiles, scale
from tests.unit.data.medical_files import write_msd


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return np.stack([rng.normal(500, 80, (6, 7, 8)), rng.normal(-3, 0.1, (6, 7, 8))], axis=-1)


def test_none_keeps_stored_values():
    image = np.array([[0], [65535]], dtype=np.uint16)
    out = scale(image, None)
    assert out.dtype == np.float32
    assert out.tolist() == [[0.0], [65535.0]]


def test_zscore_is_per_channel_and_per_volume(image):
    out = scale(image, {"kind": "zscore"})
    np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=(0, 1, 2)), 1, atol=1e-4)


def test_zscore_of_the_foreground():
    image = np.array([0, 0, 0, 10, 20, 30], dtype=np.float32)[:, None]
    out = scale(image, {"kind": "zscore", "foreground": 0})
    expected = (image - 20) / np.std([10, 20, 30])
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_percentile_window_and_range():
    ramp = np.linspace(0, 1000, 1001)[:, None]
    out = scale(ramp, {"kind": "percentile", "low": 10, "high": 90})
    np.testing.assert_allclose(out[[0, 100, 500, 900, 1000], 0], [0, 0, 0.5, 1, 1], atol=1e-6)
    hu = np.array([-1000.0, -160, 40, 240, 3000])[:, None]
    out = scale(hu, {"kind": "window", "level": 40, "width": 400})
    np.testing.assert_allclose(out[:, 0], [0, 0, 0.5, 1, 1])
    out = scale(hu, {"kind": "range", "low": -1000, "high": 1000})
    np.testing.assert_allclose(out[:, 0], [0, 0.42, 0.52, 0.62, 2])


@pytest.mark.parametrize("kind", ["zscore", "percentile"])
@pytest.mark.parametrize("value", [0.0, 1e-20, 7.1, -1024.3, 1e7])
def test_constant_image_is_zero(kind, value):
    out = scale(np.full((4, 4, 4, 1), value, dtype=np.float32), {"kind": kind})
    assert (out == 0).all()


def test_nothing_above_the_foreground_threshold(image):
    out = scale(image, {"kind": "zscore", "foreground": 1e9})
    np.testing.assert_allclose(out, scale(image, {"kind": "zscore"}))


def test_given_image_stays(image):
    before = image.copy()
    scale(image, {"kind": "percentile"})
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "z-score"}, r"intensity\.kind: .* got 'z-score'; did you mean 'zscore'"),
        ({}, r"intensity\.kind: .* got ''"),
        (
            {"kind": "window", "level": 40, "with": 400},
            r"with: expected one of level, width, got 'with'; did you mean 'width'",
        ),
        ({"kind": "window", "level": 40}, r"got no width"),
        ({"kind": "window", "level": 40, "width": 0}, r"intensity\.width"),
        ({"kind": "range", "low": 2, "high": 1}, r"expected low below high"),
        ({"kind": "percentile", "high": 101}, r"expected percentiles from 0 to 100"),
        (
            {"kind": "zscore", "foreground": "air"},
            r"intensity\.foreground: expected a finite number",
        ),
        ({"kind": "zscore", "low": 1}, r"intensity \(zscore\)\.low: expected one of foreground"),
        (
            {"kind": "clip", "low": 0, "high": 9, "mean": 3},
            r"intensity \(clip\): expected high, low, mean, std, got no std",
        ),
        ({"kind": "clip", "low": 9, "high": 0, "mean": 3, "std": 1}, r"expected low below high"),
        (
            {"kind": "clip", "low": 0, "high": 9, "mean": 3, "std": 0},
            r"intensity\.std: expected more than 0",
        ),
        ({"kind": "channels"}, r"intensity\.rules: expected a list"),
        ({"kind": "channels", "rules": ["zscore"]}, r"intensity\.rules: expected \{kind: \.\.\.\}"),
        ({"kind": "channels", "rules": [{"kind": "ct"}]}, r"intensity\.kind: .* got 'ct'"),
        (
            {"kind": "channels", "rules": [{"kind": "zscore"}], "low": 1},
            r"channels\)\.low: expected one of kind, rules",
        ),
    ],
)
def test_wrong_rules_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        check_rule(rule)


def test_a_rule_a_channel(image):
    rules = [{"kind": "clip", "low": 400, "high": 600, "mean": 500, "std": 50}, {"kind": "zscore"}]
    rule = {"kind": "channels", "rules": rules}
    out = scale(image, rule)
    np.testing.assert_allclose(
        out[..., 0], (np.clip(image[..., 0], 400, 600) - 500) / 50, atol=1e-5
    )
    np.testing.assert_array_equal(out[..., 1], scale(image, {"kind": "zscore"})[..., 1])
    assert check_rule(rule) == rule
    assert kinds(rule) == {"clip", "zscore"}
    with pytest.raises(ValueError, match="expected a rule for each of 1 channels, got 2"):
        scale(image[..., :1], rule)


@pytest.mark.parametrize("reader", [ImageReader, None])
def test_another_number_of_rules_is_refused_before_anything_is_read(reader, tmp_path):
    rule = {"kind": "channels", "rules": [{"kind": "zscore"}] * 2}
    write_msd(tmp_path, count=1)
    build = partial(ImageReader, 3) if reader else partial(MedicalVolumes, tmp_path)
    with pytest.raises(ValueError, match=r"intensity\.rules: expected a rule for each of [13] ch"):
        build(intensity=rule)


@pytest.mark.parametrize("percents", [[0.5, 99.5], [0, 100], [33.3, 50]])
def test_percentiles_of_parts_are_those_of_the_whole(percents):
    random = np.random.default_rng(0)
    for values in (random.normal(size=(9, 7, 5)), random.integers(-2, 3, (4, 9)), np.zeros((3, 3))):
        whole = values.astype(np.float32)
        found = percentiles(lambda whole=whole: iter(whole), percents)
        np.testing.assert_array_equal(found, np.percentile(whole, percents))


@pytest.mark.parametrize("rule", [{"kind": "zscore", "foreground": 0.2}, {"kind": "percentile"}])
def test_parts_are_scaled_with_the_statistics_of_the_whole(rule):
    whole = np.random.default_rng(0).normal(size=(9, 7, 5)).astype(np.float32)
    apply = fitted(lambda: iter(whole), rule)
    parts = np.stack([apply(part) for part in whole])
    assert parts.dtype == np.float32
    np.testing.assert_allclose(parts, scale(whole[..., None], rule)[..., 0], rtol=0, atol=1e-6)
