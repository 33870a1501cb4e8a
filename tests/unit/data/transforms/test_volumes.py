from __future__ import annotations

import sys

import numpy as np
import pytest

from densekit.data import VolumeAugment
from densekit.types import Sample


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def sample():
    """12 x 16 x 10 with a block of class 2 where the first of two channels is 5."""
    mask = np.zeros((12, 16, 10), dtype=np.uint8)
    mask[2:7, 3:9, 4:9] = 2
    image = np.stack([np.where(mask == 2, 5.0, 0), rng().normal(size=mask.shape)], axis=-1)
    return Sample(image=image.astype(np.float32), mask=mask, index=3, meta={"path": "x"})


OWN = {
    "RandFlip": {"prob": 0.5, "spatial_axis": [0, 2]},
    "RandAffine": {"prob": 0.5, "rotate_range": 0.3, "scale_range": 0.1, "translate_range": 2},
    "RandGaussianNoise": {"prob": 0.5},
    "RandScaleIntensity": {"prob": 0.5},
    "RandShiftIntensity": {"prob": 0.5},
    "RandAdjustContrast": {"prob": 0.5},
}


def test_flip_by_hand(sample):
    out = VolumeAugment({"RandFlip": {"prob": 1, "spatial_axis": 1}})(sample, rng())
    np.testing.assert_array_equal(out["image"], sample["image"][:, ::-1])
    np.testing.assert_array_equal(out["mask"], sample["mask"][:, ::-1])
    both = VolumeAugment(
        {"RandFlip_z": {"prob": 1, "spatial_axis": 0}, "RandFlip_x": {"prob": 1, "spatial_axis": 2}}
    )(sample, rng())
    np.testing.assert_array_equal(both["mask"], sample["mask"][::-1, :, ::-1])
    every = VolumeAugment({"RandFlip": {"prob": 1}})(sample, rng())
    np.testing.assert_array_equal(every["mask"], sample["mask"][::-1, ::-1, ::-1])


def test_affine_moves_image_and_mask_together(sample):
    steps = {"RandAffine": {"prob": 1, "rotate_range": 0.5, "scale_range": 0.2}}
    for seed in range(5):
        out = VolumeAugment(steps)(sample, rng(seed))
        inside, outside = out["mask"] == 2, out["mask"] == 0
        assert 60 < inside.sum() < 300
        # where the mask says block, the linear image is more block than not
        assert (out["image"][..., 0][inside] > 2.5 - 1.3).all()
        assert out["image"][..., 0][inside].mean() > 4
        assert out["image"][..., 0][outside].mean() < 0.5


def test_what_comes_from_beyond_the_border_is_ignored(sample):
    steps = {"RandAffine": {"prob": 1, "translate_range": [4, 0, 0]}}
    out = VolumeAugment(steps)(sample, rng(1))
    slabs = (out["mask"] == 255).all(axis=(1, 2))
    assert 0 < slabs.sum() <= 4
    assert (out["mask"] == 255).sum() == slabs.sum() * 160
    assert set(np.unique(out["mask"])) == {0, 2, 255}


class Upper:
    """A generator that always draws the upper end."""

    random = staticmethod(lambda: 0.0)
    uniform = staticmethod(lambda low, high, size=None: np.full(size, high))


def test_quarter_turn_equals_rot90(sample):
    cube = {"image": sample["image"][:10, :10, :10], "mask": sample["mask"][:10, :10, :10]}
    for axis, plane in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        angles = [np.pi / 2 if a == axis else 0.0 for a in range(3)]
        steps = {"RandAffine": {"prob": 1, "rotate_range": angles}}
        out = VolumeAugment(steps)({**cube, "index": 0}, Upper())
        turned = [np.rot90(cube["mask"], k, plane) for k in (1, 3)]
        assert sum((out["mask"] == t).all() for t in turned) == 1
    flat = {"image": cube["image"][5], "mask": cube["mask"][5], "index": 0}
    out = VolumeAugment({"RandAffine": {"prob": 1, "rotate_range": np.pi / 2}})(flat, Upper())
    assert sum((out["mask"] == np.rot90(flat["mask"], k)).all() for k in (1, 3)) == 1


@pytest.mark.parametrize(
    ("own", "peers"),
    [
        ({"rotate_range": [0.3, 0, 0]}, {"rotate_params": [0.3, 0, 0]}),
        ({"rotate_range": [0.2, 0.1, 0.3]}, {"rotate_params": [0.2, 0.1, 0.3]}),
        ({"translate_range": [0, 2.5, 1]}, {"translate_params": [0, 2.5, 1]}),
        ({"scale_range": [0.25, 0, 0.6]}, {"scale_params": [1 / 1.25, 1, 1 / 1.6]}),
    ],
)
def test_affine_equals_monais(sample, own, peers):
    from monai.transforms import Affine

    out = VolumeAugment({"RandAffine": {"prob": 1, **own}})(sample, Upper())
    peer = Affine(**peers, padding_mode="border", image_only=True)
    wanted = np.asarray(peer(np.moveaxis(sample["image"], -1, 0)))
    np.testing.assert_allclose(np.moveaxis(out["image"], -1, 0), wanted, atol=1e-4)


def test_intensity_steps_leave_the_mask(sample):
    for name in (
        "RandGaussianNoise",
        "RandScaleIntensity",
        "RandShiftIntensity",
        "RandAdjustContrast",
        "RandGaussianSmooth",
        "RandBiasField",
    ):
        out = VolumeAugment({name: {"prob": 1}})(sample, rng(1))
        assert (out["image"] != sample["image"]).any(), name
        assert out["image"].dtype == np.float32
        np.testing.assert_array_equal(out["mask"], sample["mask"])


def test_gamma_keeps_each_channels_range(sample):
    out = VolumeAugment({"RandAdjustContrast": {"prob": 1}})(sample, rng())
    for reduce in (np.min, np.max):
        kept = reduce(sample["image"], axis=(0, 1, 2))
        np.testing.assert_allclose(reduce(out["image"], axis=(0, 1, 2)), kept, atol=1e-5)
    constant = {"image": np.full((4, 4, 4, 1), 3, np.float32), "index": 0}
    out = VolumeAugment({"RandAdjustContrast": {"prob": 1}})(constant, rng())
    np.testing.assert_allclose(out["image"], 3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandZoom", {"prob": 1, "min_zoom": 0.6, "max_zoom": 0.7}),
        ("RandRotate", {"prob": 1, "range_x": 0.7}),
        (
            "Rand3DElastic",
            {"prob": 1, "sigma_range": [2, 3], "magnitude_range": [20, 30], "rotate_range": 0.8},
        ),
    ],
)
def test_monais_by_name(sample, name, arguments):
    out = VolumeAugment({name: arguments})(sample, rng(2))
    assert out["image"].shape == sample["image"].shape
    assert out["mask"].dtype == np.uint8
    assert set(np.unique(out["mask"])) == {0, 2, 255}  # nearest, and what it invented is ignored
    inside = out["mask"] == 2
    assert out["image"][..., 0][inside].mean() > 3


def test_draws_are_a_function_of_the_generator(sample):
    steps = {**OWN, "RandZoom": {"prob": 0.5}, "RandGaussianSmooth": {"prob": 0.5}}
    one, two = VolumeAugment(steps), VolumeAugment(steps)
    for seed in (3, 1, 2):
        two(sample, rng(99 + seed))  # what came before does not matter
        first, second = one(sample, rng(seed)), two(sample, rng(seed))
        np.testing.assert_array_equal(first["image"], second["image"])
        np.testing.assert_array_equal(first["mask"], second["mask"])
    assert len({one(sample, rng(seed))["image"].tobytes() for seed in range(6)}) > 4


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_given_sample_stays_even_if_it_cannot_be_written(sample):
    image, mask = sample["image"].copy(), sample["mask"].copy()
    for array in (sample["image"], sample["mask"]):
        array.flags.writeable = False  # what the cache hands out
    steps = {name: {**arguments, "prob": 1} for name, arguments in OWN.items()}
    VolumeAugment({**steps, "RandZoom": {"prob": 1}, "RandGaussianSmooth": {"prob": 1}})(
        sample, rng()
    )
    np.testing.assert_array_equal(sample["image"], image)
    np.testing.assert_array_equal(sample["mask"], mask)


def test_multilabel_masks_and_pictures(sample):
    planes = np.stack([sample["mask"] // 2, 1 - sample["mask"] // 2])
    steps = {
        "RandFlip": {"prob": 1, "spatial_axis": 0},
        "RandAffine": {"prob": 1, "rotate_range": 0.2},
    }
    out = VolumeAugment(steps)({**sample, "mask": planes}, rng())
    assert out["mask"].shape == planes.shape
    known = out["mask"][0] != 255
    assert (out["mask"].sum(axis=0)[known] == 1).all()
    flat = {"image": sample["image"][5], "mask": sample["mask"][5], "index": 0}
    assert VolumeAugment(steps)(flat, rng())["mask"].shape == (16, 10)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"RandFlop": {}},
            r"VolumeAugment\.steps: .* got 'RandFlop'; did you mean 'RandFlip",
        ),
        ({"RandFlip": {"axis": 0}}, r"steps\.RandFlip\.axis: .* did you mean 'spatial_axis'"),
        ({"RandZoom": {"minzoom": 1}}, r"steps\.RandZoom\.minzoom: .* did you mean 'min_zoom'"),
        ({"RandZoom": {"min_zoom": 2, "max_zoom": [1, 2]}}, r"steps\.RandZoom: "),
    ],
)
def test_wrong_steps_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        VolumeAugment(steps)


def test_targets_that_would_stay_behind_are_refused(sample):
    boxes = np.zeros((1, 4), dtype=np.float32)
    with pytest.raises(ValueError, match=r"expected no targets besides a mask, got \['boxes'\]"):
        VolumeAugment({"RandFlip": {}})({**sample, "boxes": boxes}, rng())


def test_own_steps_need_no_monai(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    assert VolumeAugment(OWN)(sample, rng())["mask"].shape == sample["mask"].shape


def test_missing_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(ImportError, match=r"needs monai: pip install 'densekit\[medical\]'"):
        VolumeAugment({"RandZoom": {}})
