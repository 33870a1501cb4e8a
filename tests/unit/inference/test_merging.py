"""Detections of several views: mapped back, and suppressed together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekit.inference import TestTimeAugmentation, WholeImage
from densekit.inference.merging import merged, seen_back
from densekit.types import Predictions
from tests.unit.inference.segmenter import pixels
from tests.unit.inference.test_sliding_window import batch_of
from tests.unit.tiny import spread, tiny_mask_detector


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Predictions:
    count = len(boxes)
    return {
        "boxes": torch.tensor([boxes], dtype=torch.float32),
        "scores": torch.tensor([scores]),
        "labels": torch.tensor([labels]),
        "valid": torch.ones(1, count, dtype=torch.bool),
        "masks": torch.arange(count * 4.0).view(1, count, 2, 2),
        "overflow": torch.zeros(1, dtype=torch.bool),
    }


@pytest.mark.parametrize(
    ("flip", "box", "mask"),
    [
        ([], [1, 1.5, 5, 4.5], [[0, 1], [2, 3]]),
        ([-1], [10, 1.5, 14, 4.5], [[1, 0], [3, 2]]),
        ([0], [1, 5.5, 5, 8.5], [[2, 3], [0, 1]]),
        ([-1, -2], [10, 5.5, 14, 8.5], [[3, 2], [1, 0]]),
    ],
)
def test_boxes_and_masks_are_mirrored_and_scaled_back(
    flip: list[int], box: list[float], mask: list[list[float]]
) -> None:
    view = found([[2, 3, 10, 9]], [0.5], [0])
    back = seen_back(view, torch.tensor([[20, 30]]), torch.tensor([[10, 15]]), flip)
    assert back["boxes"].tolist() == [[box]]
    assert back["masks"].tolist() == [[mask]]


def test_the_best_of_each_class_stay_with_their_masks() -> None:
    first = found([[0, 0, 9, 9], [50, 50, 60, 60]], [0.5, 0.3], [0, 0])
    second = found([[0, 0, 9, 10], [0, 0, 9, 9.5]], [0.9, 0.4], [0, 1])
    second["valid"][0, 1] = False
    second["overflow"][0] = True
    both = merged([first, second], 0.5, 3)
    valid = both["valid"][0]
    assert both["boxes"].shape == (1, 3, 4)
    assert both["scores"][0][valid].tolist() == pytest.approx([0.9, 0.3])
    assert both["masks"][0, :2, 0, 0].tolist() == [0, 4]  # of the second view, then of the first
    assert both["overflow"].tolist() == [True]
    other = merged([first, found([[0, 0, 9, 9]], [0.9], [1])], 0.5, 9)
    assert other["valid"].sum() == 3  # classes do not suppress each other


@torch.inference_mode()
def test_detections_of_copies_are_joined() -> None:
    model = tiny_mask_detector().eval()
    spread(model)
    batch = batch_of(pixels(3, 60, 90), pixels(3, 64, 50, seed=1))
    batch["meta"] = [{"original_size": size} for size in [(60, 90), (64, 50)]]
    plain = WholeImage()(model, batch)
    for one, same in zip(plain, TestTimeAugmentation(flips=[])(model, batch), strict=True):
        assert one["detection"]["masks"] == same["detection"]["masks"]
    joined = TestTimeAugmentation(flips=[-1], scales=[1.0, 1.5])(model, batch)
    for one, more, (height, width) in zip(plain, joined, [(60, 90), (64, 50)], strict=True):
        boxes, masks = more["detection"]["boxes"], more["detection"]["masks"]
        assert len(masks) == len(boxes) > len(one["detection"]["boxes"])
        assert {tuple(mask["size"]) for mask in masks} == {(height, width)}
        assert (boxes <= np.array([width, height, width, height]) + 1e-3).all()
        assert more["detection"]["scores"][0] >= one["detection"]["scores"][0]
