"""Frames that programs are compiled for, and batches padded to them and cut back."""

from __future__ import annotations

import torch

from densekit.inference.engines.buckets import bucket_of, cut, fill


def test_frames_are_those_to_which_the_model_pads() -> None:
    assert bucket_of((2, 41, 65), [], 32) == (2, 64, 96)
    assert bucket_of((2, 64, 96), [], 32) == (2, 64, 96)
    assert bucket_of((2, 41, 65), [], 1) == (2, 41, 65)


def test_a_smaller_batch_takes_the_program_of_a_larger_one() -> None:
    known = [(8, 64, 96), (4, 64, 96), (2, 64, 64)]
    assert bucket_of((3, 41, 65), known, 32) == (4, 64, 96)
    assert bucket_of((5, 41, 65), known, 32) == (8, 64, 96)
    assert bucket_of((9, 41, 65), known, 32) == (9, 64, 96)


def test_what_is_filled_is_cut_again() -> None:
    image, size = torch.rand(2, 3, 41, 65), torch.tensor([[41, 65], [30, 20]])
    filled, sizes = fill(image, size, (3, 64, 128))
    assert filled.shape == (3, 3, 64, 128)
    assert sizes.tolist() == [[41, 65], [30, 20], [1, 1]]
    torch.testing.assert_close(filled[:2, :, :41, :65], image)
    filled[:2, :, :41, :65] = 0
    assert not filled.any()
    predictions = {"a": {"logits": torch.rand(3, 2, 64, 128)}, "b": {"boxes": torch.rand(3, 9, 4)}}
    found = cut(predictions, 2)
    assert torch.equal(found["a"]["logits"], predictions["a"]["logits"][:2])
    assert found["b"]["boxes"].shape == (2, 9, 4)


def test_nothing_is_copied_where_nothing_is_filled() -> None:
    image, size = torch.rand(2, 3, 64, 64), torch.tensor([[64, 64], [30, 20]])
    filled, sizes = fill(image, size, (2, 64, 64))
    assert filled is image
    assert sizes is size
