"""Frames that programs are compiled for, and batches padded to them and cut back."""

from __future__ import annotations

import torch

from densekit.inference.engines.buckets import bucket_of, cut, fill, is_rounded
from tests.unit.inference.segmenter import tiny_segmenter
from tests.unit.tiny import tiny_detector


def test_only_frames_of_boxes_are_rounded() -> None:
    assert is_rounded(tiny_detector())
    assert not is_rounded(tiny_segmenter())
    assert bucket_of((2, 41, 65), [], rounded=True) == (2, 64, 128)
    assert bucket_of((2, 41, 65), [], rounded=False) == (2, 41, 65)


def test_a_smaller_batch_takes_the_program_of_a_larger_one() -> None:
    known = [(8, 64, 128), (4, 64, 128), (2, 64, 64)]
    assert bucket_of((3, 41, 65), known, rounded=True) == (4, 64, 128)
    assert bucket_of((5, 41, 65), known, rounded=True) == (8, 64, 128)
    assert bucket_of((9, 41, 65), known, rounded=True) == (9, 64, 128)


def test_what_is_filled_is_cut_again() -> None:
    image, size = torch.rand(2, 3, 41, 65), torch.tensor([[41, 65], [30, 20]])
    filled, sizes = fill(image, size, (3, 64, 128))
    assert filled.shape == (3, 3, 64, 128)
    assert sizes.tolist() == [[41, 65], [30, 20], [1, 1]]
    torch.testing.assert_close(filled[:2, :, :41, :65], image)
    filled[:2, :, :41, :65] = 0
    assert not filled.any()
    maps = torch.rand(3, 2, 64, 128)
    predictions = {"a": {"logits": maps}, "b": {"boxes": torch.rand(3, 10, 4)}}
    found = cut(predictions, (2, 41, 65), (3, 64, 128), 32)
    torch.testing.assert_close(found["a"]["logits"], maps[:2, :, :64, :96])
    assert found["b"]["boxes"].shape == (2, 10, 4)


def test_nothing_is_copied_where_nothing_is_filled() -> None:
    image, size = torch.rand(2, 3, 64, 64), torch.tensor([[64, 64], [30, 20]])
    filled, sizes = fill(image, size, (2, 64, 64))
    assert filled is image
    assert sizes is size
