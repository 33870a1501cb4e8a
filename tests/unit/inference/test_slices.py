"""A network for pictures over the slices of a volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekit import Predictor
from densekit.inference import CleanUp, Slices, SlidingWindow
from tests.unit.inference.segmenter import pixels, tiny_segmenter
from tests.unit.inference.test_sliding_window import batch_of


@pytest.mark.parametrize("axis", [0, 1, 2])
@torch.inference_mode()
def test_each_slice_as_a_picture(axis: int) -> None:
    model = tiny_segmenter()
    volumes = [pixels(1, 5, 12, 9), pixels(1, 7, 6, 14, seed=1)]
    results = Slices(axis=axis, batch_size=4)(model, batch_of(*volumes))
    for volume, result in zip(volumes, results, strict=True):
        mask = result["segmentation"]["mask"]
        assert mask.shape == tuple(volume.shape[1:])
        for place in range(volume.shape[1 + axis]):
            plane = volume.select(1 + axis, place)
            (expected,) = Predictor(model)([plane])
            same = mask.take(place, axis) == expected["segmentation"]["mask"]
            assert same.mean() > 0.99


@torch.inference_mode()
def test_neighbours_are_channels_from_the_lowest_on() -> None:
    model = tiny_segmenter(channels=6)  # two channels of a volume, three slices
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    volume = torch.arange(2 * 4)[:, None, None].expand(8, 4, 4).reshape(2, 4, 4, 4).float()
    Slices(neighbours=1).predict(model, batch_of(volume))
    (image,) = seen
    values = image[:, :, 0, 0] * 20 + 30  # mean and std undone; channel c of slice z is 4 c + z
    assert values.round().long().tolist() == [
        [0, 4, 0, 4, 1, 5],
        [0, 4, 1, 5, 2, 6],
        [1, 5, 2, 6, 3, 7],
        [2, 6, 3, 7, 3, 7],
    ]


def test_predictor_slices_what_was_trained_on_slices() -> None:
    model = tiny_segmenter(channels=3, slices={"axis": 1, "neighbours": 1})
    volume = pixels(1, 6, 5, 8)
    inferer = CleanUp(SlidingWindow([4, 4]), min_size=10**6)
    (result,) = Predictor(model, inferer=inferer)([volume])
    assert result["segmentation"]["mask"].shape == (6, 5, 8)
    assert not result["segmentation"]["mask"].any()  # cleaned as a volume
    array = volume.permute(1, 2, 3, 0).numpy()
    (other,) = Predictor(model)([array])
    assert other["segmentation"]["mask"].any()
    with pytest.raises(ValueError, match=r"expected \(1, D, H, W\) tensors"):
        Predictor(model)([np.zeros((4, 4, 4, 3), np.uint8)])
