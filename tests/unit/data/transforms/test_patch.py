"""Windows of a fixed size in two and three dimensions, anywhere or around a class."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import Patch
from densekit.data.transforms.class_pixels import _PART, draw_class_pixel
from densekit.types import Sample


def rng(seed=0):
    return np.random.default_rng(seed)


def make(sides, channels=2, labels=0):
    """An image whose pixels are their own positions, so that every window says where it was."""
    places = np.arange(np.prod(sides), dtype=np.float32).reshape(sides)
    image = np.stack([places + 1000 * c for c in range(channels)], axis=-1)
    mask = (places % 3).astype(np.uint8)
    if labels:
        mask = np.stack([(places % (k + 2) == 0).astype(np.uint8) for k in range(labels)])
    return Sample(image=image, mask=mask, index=0, meta={"path": "x.png"})


def assert_from(window, sample):
    """Every known pixel of the window and of its mask is that of its place in the sample."""
    dims = sample["image"].ndim - 1
    known = (window["mask"] != 255).reshape(-1, *window["image"].shape[:dims]).all(axis=0)
    places = window["image"][..., 0][known].astype(int)
    flat = sample["mask"].reshape(*sample["mask"].shape[:-dims], -1)
    np.testing.assert_array_equal(window["mask"][..., known], flat[..., places])


@pytest.mark.parametrize("labels", [0, 4])
@pytest.mark.parametrize(
    ("sides", "size"), [((11, 13), (4, 6)), ((5, 6, 7), (3, 6, 2)), ((9,), (4,))]
)
def test_windows_of_the_size_from_everywhere(sides, size, labels):
    sample = make(sides, labels=labels)
    corners = set()
    for seed in range(60):
        out = Patch(size)(sample, rng(seed))
        assert out["image"].shape == (*size, 2)
        assert out["mask"].shape == ((labels,) if labels else ()) + size
        assert_from(out, sample)
        corners.add(out["image"].flat[0])
    room = [side - own + 1 for side, own in zip(sides, size, strict=True)]
    assert len(corners) > 0.5 * min(60, np.prod(room))
    assert sample["image"].shape == (*sides, 2)  # the given one stays


def test_smaller_images_are_put_in_the_middle():
    sample = make((3, 10, 4))
    out = Patch((7, 6, 5), fill=-1.5)(sample, rng())
    assert out["image"].shape == (7, 6, 5, 2)
    known = out["mask"] != 255
    assert known[2:5, :, 0:4].all()
    assert known.sum() == 3 * 6 * 4
    assert (out["image"][~known] == -1.5).all()
    assert_from(out, sample)


def test_fill_of_channels_and_of_maps():
    sample = make((3, 3), channels=3)
    sample["image"] = sample["image"].astype(np.uint8)
    sample["extra"] = {"depth": np.ones((3, 3), dtype=np.float32), "row": np.arange(2)}
    with pytest.raises(ValueError, match=r"extra_fills\.depth: expected the padding value"):
        Patch((5, 5))(sample, rng())
    out = Patch((5, 5), fill=[7, 8, 9], extra_fills={"depth": -1})(sample, rng())
    assert out["image"].dtype == np.uint8
    assert out["image"][0, 0].tolist() == [7, 8, 9]
    assert out["extra"]["depth"][0, 0] == -1
    assert out["extra"]["depth"].sum() == 9 - 16
    assert out["extra"]["row"].tolist() == [0, 1]
    assert sample["extra"]["depth"].shape == (3, 3)


def test_boxes_go_with_the_window():
    boxes = np.asarray([[2, 1, 8, 3], [18, 1, 20, 3]], dtype=np.float32)
    sample = Sample(
        image=np.zeros((4, 20, 3), dtype=np.uint8),
        boxes=boxes,
        labels=np.asarray([5, 6]),
        crowd=np.zeros(2, dtype=bool),
    )
    for seed in range(20):
        out = Patch((8, 10))(sample, rng(seed))  # 4 rows become 8, 20 columns 10
        for box, label in zip(out["boxes"], out["labels"], strict=True):
            assert (box[1], box[3]) == (3, 5)
            assert box[2] - box[0] <= {5: 6, 6: 2}[label]
            assert 0 <= box[0] < box[2] <= 10


@pytest.mark.parametrize("labels", [False, True])
def test_windows_are_centred_on_a_class_drawn_evenly(labels):
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[10, 10] = 1
    mask[12:20, 20:32] = 2
    mask[:3] = 255
    image = np.arange(30 * 40, dtype=np.float32).reshape(30, 40, 1)
    given = np.stack([mask == 1, mask == 2]).astype(np.uint8) if labels else mask
    sample = Sample(image=image, mask=given)
    patch = Patch((5, 5), balanced=1, skip_background=True)
    centres = [int(patch(sample, rng(seed))["image"][2, 2, 0]) for seed in range(100)]
    classes = mask.ravel()[centres]
    assert set(classes) == {1, 2}
    assert 30 < (classes == 1).sum() < 70
    assert len(set(centres)) > 30
    every = Patch((5, 5), balanced=1)
    classes = [mask.flat[int(every(sample, rng(s))["image"][2, 2, 0])] for s in range(60)]
    assert set(classes) == ({1, 2} if labels else {0, 1, 2})


def test_share_of_balanced_windows():
    mask = np.zeros((100, 100), dtype=np.uint8)
    mask[50, 50] = 1
    sample = Sample(image=mask[..., None], mask=mask)
    patch = Patch((5, 5), balanced=0.33, skip_background=True)
    hits = sum(bool(patch(sample, rng(seed))["mask"][2, 2]) for seed in range(300))
    assert 70 < hits < 130


def test_window_at_the_border_stays_inside():
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[0, 9] = 1
    sample = Sample(image=mask[..., None], mask=mask)
    out = Patch((4, 4), balanced=1, skip_background=True)(sample, rng())
    assert out["mask"][0, 3] == 1


def test_without_a_class_the_window_lies_anywhere():
    sample = make((9, 9))
    sample["mask"] = np.full((9, 9), 255, dtype=np.uint8)
    corners = {Patch((3, 3), balanced=1)(sample, rng(s))["image"].flat[0] for s in range(30)}
    assert len(corners) > 10


def test_every_draw_is_the_generators():
    sample = make((20, 20, 20))
    patch = Patch((4, 4, 4), balanced=0.5)
    firsts = [patch(sample, rng(seed))["image"].flat[0] for seed in range(20)]
    assert firsts == [patch(sample, rng(seed))["image"].flat[0] for seed in range(20)]
    assert len(set(firsts)) > 10


@pytest.mark.parametrize("labels", [False, True])
def test_pixels_of_a_class_are_drawn_evenly_across_parts(labels):
    mask = np.zeros((3, _PART // 2), dtype=np.uint8)  # the middle row is in both parts
    places = [(0, 5), (1, 7), (1, _PART // 2 - 1), (2, 0), (2, _PART // 2 - 1)]
    for place in places:
        mask[place] = 1
    given = mask[None] if labels else mask
    drawn = [draw_class_pixel(given, 2, rng(s), skip_background=True) for s in range(60)]
    counts = [drawn.count(place) for place in places]
    assert sum(counts) == 60
    assert min(counts) >= 3


def test_masks_that_are_views_or_files(tmp_path):
    mask = np.zeros((4, 6, 8), dtype=np.uint8)
    mask[1, 2, 3] = 1
    np.save(tmp_path / "mask.npy", mask)
    mapped = np.load(tmp_path / "mask.npy", mmap_mode="r")
    for given, wanted in [(mapped, (1, 2, 3)), (mask[::-1], (2, 2, 3)), (mask.T, (3, 2, 1))]:
        assert draw_class_pixel(given, 3, rng(), skip_background=True) == wanted


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Patch(64), r"Patch\.size: expected a list of sizes"),
        (lambda: Patch([0, 4]), r"Patch\.size"),
        (lambda: Patch([4, 4], balanced=2), r"Patch\.balanced: expected 0 to 1"),
        (
            lambda: Patch([4, 4, 4])(make((9, 9)), rng()),
            r"Patch\.size: expected 2 sizes, as x\.png has \[9, 9\], got \[4, 4, 4\]",
        ),
        (
            lambda: Patch([4, 4], fill=[1, 2, 3])(make((9, 9)), rng()),
            r"Patch\.fill: .* per channel \(2\)",
        ),
        (
            lambda: Patch([4, 4], balanced=1)(Sample(image=make((9, 9))["image"]), rng()),
            r"Patch\.balanced: expected a mask .*, got an image",
        ),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
