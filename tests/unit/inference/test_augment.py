"""Test-time augmentation against the mean written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit import DenseModel
from densekit.inference import CleanUp, SlidingWindow, TestTimeAugmentation, WholeImage
from densekit.inference.augment import probabilities, to_logits
from tests.unit.inference.segmenter import pixels, tiny_segmenter
from tests.unit.inference.test_sliding_window import batch_of


def whole(model: DenseModel, image: Tensor) -> Tensor:
    """(K, *S) logits of one image."""
    found = WholeImage().predict(model, batch_of(image))["segmentation"]["logits"][0]
    return found[(slice(None), *map(slice, image.shape[1:]))]


@pytest.mark.parametrize(("dims", "flips"), [(2, [-1]), (2, [0, 1]), (3, [0, 1, 2]), (2, [])])
@torch.inference_mode()
def test_mean_of_softmax_over_mirrors(dims: int, flips: list[int]) -> None:
    model, image = tiny_segmenter(dims), pixels(1, *(13, 18, 11)[:dims])
    total, count = torch.zeros(()), 0
    for bits in range(2 ** len(flips)):
        axes = [1 + axis % dims for n, axis in enumerate(flips) if bits >> n & 1]
        mirrored = image.flip(axes) if axes else image
        found = whole(model, mirrored).softmax(0)
        total, count = total + (found.flip(axes) if axes else found), count + 1
    predictions = TestTimeAugmentation(flips=flips).predict(model, batch_of(image))
    logits = predictions["segmentation"]["logits"][0]
    inside = logits[(slice(None), *map(slice, image.shape[1:]))]
    torch.testing.assert_close(inside.softmax(0), total / count, rtol=0, atol=1e-6)
    assert flips == [] or (inside.softmax(0) - whole(model, image).softmax(0)).abs().max() > 1e-4


@torch.inference_mode()
def test_scales() -> None:
    model, image = tiny_segmenter(), pixels(1, 24, 37).float()
    small = F.interpolate(image[None], (12, 18), mode="bilinear", align_corners=False)[0]
    found = whole(model, small).softmax(0)[None]
    back = F.interpolate(found, (24, 37), mode="bilinear", align_corners=False)[0]
    expected = (whole(model, image).softmax(0) + back) / 2
    inferer = TestTimeAugmentation(flips=[], scales=[1.0, 0.5])
    logits = inferer.predict(model, batch_of(image))["segmentation"]["logits"][0, :, :24, :37]
    torch.testing.assert_close(logits.softmax(0), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_each_image_of_a_batch_is_mirrored_without_its_padding() -> None:
    # One convolution alone sees no more of the padding than of the border of an image.
    model = tiny_segmenter(depth=0)
    inferer = TestTimeAugmentation(flips=[0, 1], scales=[1, 0.75])
    images = [pixels(1, 20, 33), pixels(1, 28, 9, seed=1)]
    together = inferer(model, batch_of(*images))
    for result, image in zip(together, images, strict=True):
        (alone,) = inferer(model, batch_of(image))
        mask = result["segmentation"]["mask"]
        same = mask == alone["segmentation"]["mask"]
        assert same.mean() > 0.999
        assert mask.shape == tuple(image.shape[1:])


@torch.inference_mode()
def test_wraps_a_sliding_window_and_a_clean_up() -> None:
    model, image = tiny_segmenter(), pixels(1, 30, 41)
    window = SlidingWindow([16, 16])
    first = window.predict(model, batch_of(image))["segmentation"]["logits"].softmax(1)
    mirrored = window.predict(model, batch_of(image.flip(2)))["segmentation"]["logits"].softmax(1)
    inferer = TestTimeAugmentation(CleanUp(window, min_size=10**6))
    logits = inferer.predict(model, batch_of(image))["segmentation"]["logits"]
    expected = (first + mirrored.flip(3)) / 2
    torch.testing.assert_close(logits.softmax(1), expected, rtol=0, atol=1e-6)
    assert not inferer(model, batch_of(image))[0]["segmentation"]["mask"].any()  # all too small
    assert not inferer.whole_image


@torch.inference_mode()
def test_features_of_the_plain_pass_are_used() -> None:
    model, batch = tiny_segmenter(), batch_of(pixels(1, 24, 32))
    calls: list[Any] = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    TestTimeAugmentation(flips=[0, 1]).predict(model, batch, model.features(batch))
    assert len(calls) == 4  # one for the features, three for the mirrors


@pytest.mark.parametrize("key", ["logits", "multilabel_logits"])
@pytest.mark.parametrize("classes", [1, 3])
def test_logits_come_back(key: str, classes: int) -> None:
    logits = 4 * torch.randn(2, classes, 5)
    mean = probabilities(key, logits)
    again = probabilities(key, to_logits(key, mean))
    torch.testing.assert_close(again, mean, rtol=1e-5, atol=1e-6)
    certain = to_logits(key, torch.ones(1, classes, 1))
    assert torch.isfinite(certain).all()
    assert torch.isfinite(to_logits(key, torch.zeros(1, classes, 1))).all()


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"flips: expected each axis once, got \[1, 1\]"):
        TestTimeAugmentation(flips=[1, 1])
    with pytest.raises(ValueError, match=r"scales: expected factors above 0, got \[0\]"):
        TestTimeAugmentation(scales=[0])
    model = tiny_segmenter()
    for axes in ([2], [1, -1]):
        with pytest.raises(ValueError, match="expected distinct axes within -2..1"):
            TestTimeAugmentation(flips=axes).predict(model, batch_of(pixels(1, 8, 8)))
    with pytest.raises(ValueError, match="nms_iou: expected 0 to 1, got 2"):
        TestTimeAugmentation(nms_iou=2)
    with pytest.raises(ValueError, match="max_detections: expected at least 1, got 0"):
        TestTimeAugmentation(max_detections=0)
