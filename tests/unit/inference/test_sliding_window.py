"""Sliding windows: what MONAI has no word on."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from densekit import Predictor
from densekit.inference import SlidingWindow, WholeImage
from densekit.inference.sliding_window import window_starts
from tests.unit.inference.segmenter import pixels, tiny_segmenter
from tests.unit.tiny import tiny_detector


def batch_of(*images: torch.Tensor) -> Any:
    """Images of different sizes, padded with zeros."""
    sizes = [tuple(image.shape[1:]) for image in images]
    largest = [max(sides) for sides in zip(*sizes, strict=True)]
    stacked = images[0].new_zeros((len(images), len(images[0]), *largest))
    for row, image in zip(stacked, images, strict=True):
        row[(slice(None), *map(slice, image.shape[1:]))] = image
    meta = [{"original_size": size} for size in sizes]
    return {"image": stacked, "size": torch.tensor(sizes), "meta": meta}


@torch.inference_mode()
def test_padding_of_the_batch_is_not_seen() -> None:
    model, inferer = tiny_segmenter(), SlidingWindow([16, 16])
    images = [pixels(1, 40, 21), pixels(1, 9, 50, seed=1)]
    together = inferer.predict(model, batch_of(*images))["segmentation"]["logits"]
    for row, image in zip(together, images, strict=True):
        alone = inferer.predict(model, batch_of(image))["segmentation"]["logits"][0]
        height, width = image.shape[1:]
        torch.testing.assert_close(row[:, :height, :width], alone, rtol=0, atol=1e-6)
        assert not row[:, height:].any()


@torch.inference_mode()
def test_one_window_is_the_whole_image() -> None:
    model, batch = tiny_segmenter(), batch_of(pixels(1, 36, 52))
    expected = WholeImage()(model, batch)[0]["segmentation"]["mask"]
    found = SlidingWindow([36, 52])(model, batch)[0]["segmentation"]["mask"]
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@torch.inference_mode()
def test_around_a_small_image_is_zero_after_normalising(order: str) -> None:
    model = tiny_segmenter(depth=0, channels=3, mean=[1.0, 2.0, 3.0], channel_order=order)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    image = pixels(3, 4, 6).clamp(min=40)
    SlidingWindow([8, 6]).predict(model, batch_of(image))
    (window,) = seen
    assert not window[:, :, :2].any()
    assert not window[:, :, 6:].any()
    assert (window[:, :, 2:6] > 0).all()


def test_several_windows_a_pass_change_nothing() -> None:
    model, batch = tiny_segmenter(), batch_of(pixels(1, 40, 44))
    with torch.inference_mode():
        one, five = (
            SlidingWindow([16, 16], batch_size=size).predict(model, batch)["segmentation"]["logits"]
            for size in (1, 5)
        )
    torch.testing.assert_close(one, five, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_multilabel_logits_stay_multilabel() -> None:
    model = tiny_segmenter(multilabel=True)
    (result,) = SlidingWindow([16, 16])(model, batch_of(pixels(1, 20, 30)))
    assert result["segmentation"]["mask"].shape == (3, 20, 30)


def test_the_last_window_ends_with_the_image() -> None:
    assert window_starts([10], [4], 0.5) == [(0,), (2,), (4,), (6,)]
    assert window_starts([9], [4], 0.25) == [(0,), (3,), (5,)]
    assert window_starts([3, 4], [3, 4], 0) == [(0, 0)]
    assert window_starts([6], [3], 0.9) == [(0,), (1,), (2,), (3,)]


def test_boxes_are_refused() -> None:
    predictor = Predictor(tiny_detector(), inferer=SlidingWindow([32, 32]))
    with pytest.raises(
        ValueError, match=r"got \['boxes', 'labels'.* from heads\.detection.*WholeImage"
    ):
        predictor([np.zeros((40, 40, 3), np.uint8)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": []}, "window: expected sides of at least 1"),
        ({"window": [8, 0]}, r"window: expected sides of at least 1, got \[8, 0\]"),
        ({"window": [8, 8], "overlap": 1}, "overlap: expected 0 to below 1, got 1"),
        ({"window": [8, 8], "batch_size": 0}, "batch_size: expected at least 1"),
        ({"window": [8, 8], "sigma": 0}, "sigma: expected above 0"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partial(SlidingWindow, **settings)()


def test_refuses_a_window_of_other_dimensions() -> None:
    with pytest.raises(ValueError, match=r"expected 2 sides, .* got \[8, 8, 8\]"):
        SlidingWindow([8, 8, 8]).predict(tiny_segmenter(), batch_of(pixels(1, 20, 30)))
