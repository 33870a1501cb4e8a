"""Images in the corners of one frame."""

from __future__ import annotations

import pytest
import torch

from densekit.ops.padding import corner, largest_sides, pad_end, stack_padded, window_at


@pytest.mark.parametrize("sizes", [[(5,)], [(2, 3), (4, 1)], [(2, 3, 1), (1, 1, 4), (2, 2, 2)]])
def test_images_of_different_sizes_share_a_frame_and_come_back(sizes):
    images = [torch.randn(2, *size) for size in sizes]
    sides = largest_sides(sizes)
    stacked = stack_padded(images, sides)
    assert stacked.shape == (len(sizes), 2, *sides)
    for frame, image, size in zip(stacked, images, sizes, strict=True):
        assert torch.equal(frame[corner(size)], image)
        assert frame.count_nonzero() == image.numel()


def test_padding_is_behind_each_axis():
    x = torch.ones(1, 2, 3, dtype=torch.uint8)
    padded = pad_end(x, (1, 2), 255)
    assert padded.tolist() == [[[1, 1, 1, 255, 255], [1, 1, 1, 255, 255], [255] * 5]]
    assert torch.equal(pad_end(x, (0, 0)), x)


def test_a_window_is_a_start_and_a_length():
    x = torch.arange(24).view(4, 6)
    assert x[window_at((1, 2), (2, 3))].tolist() == [[8, 9, 10], [14, 15, 16]]
