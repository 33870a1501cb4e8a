"""Targets of a region: by hand, and from frames as from the planes of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.ops.mask_targets import targets_from_frames, targets_from_planes


def frames_of(planes: Tensor, boxes: Tensor, side: int = 112) -> Tensor:
    """(N, M, M): planes (N, H, W) at the points that `Batch.object_masks` names."""
    step = (torch.arange(side) + 0.5) / side
    x, y = (
        (boxes[:, axis, None] + step * (boxes[:, axis + 2] - boxes[:, axis])[:, None]).long()
        for axis in (0, 1)
    )
    return planes[torch.arange(len(planes))[:, None, None], y[:, :, None], x[:, None, :]]


def test_by_hand() -> None:
    masks = torch.tensor([[[1, 0], [1, 255]]], dtype=torch.uint8)
    own = torch.tensor([[10.0, 20, 14, 24]])
    target, known = targets_from_frames(masks, own, own, 2)
    assert target[0].tolist() == [[1, 0], [1, 0]]
    assert known[0].tolist() == [[True, True], [True, False]]
    # twice as wide and one to the left: bins of 4 pixels, of which the first holds 3 of the box
    target, known = targets_from_frames(masks, own, torch.tensor([[9.0, 20, 17, 24]]), 2)
    assert target[0].tolist() == [[0.5, 0], [0.5, 0]]
    assert known[0].tolist() == [[True, True], [False, False]]


def test_boxes_without_an_area_give_finite_targets() -> None:
    empty = torch.zeros(1, 4)
    for own, region in (
        (empty, empty),
        (empty, empty + 3),
        (torch.tensor([[0.0, 0, 5, 5]]), empty),
    ):
        target, _ = targets_from_frames(torch.ones(1, 4, 4).byte(), own, region, 4)
        assert target.isfinite().all()


def test_frames_give_the_targets_of_planes() -> None:
    """Ellipses of 20 to 120 pixels and regions of an IoU of about 0.7 with their boxes."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(40, 2, generator=generator) * 100 + 10
    side = torch.rand(40, 2, generator=generator) * 100 + 20
    boxes = torch.cat([start, start + side], 1)
    grid = torch.arange(256) + 0.5
    x, y = grid.view(1, 1, -1), grid.view(1, -1, 1)
    centre, radius = (start + side / 2)[..., None, None], (side / 2)[..., None, None]
    planes = (
        ((x - centre[:, 0]) / radius[:, 0]) ** 2 + ((y - centre[:, 1]) / radius[:, 1]) ** 2 < 1
    ).byte()
    shift = (torch.rand(40, 4, generator=generator) - 0.5) * side.repeat(1, 2) * 0.2
    regions = boxes + shift
    found, known = targets_from_frames(frames_of(planes, boxes), boxes, regions, 28)
    expected, _ = targets_from_planes(planes, torch.arange(40), regions, 28, aligned=True)
    assert known.all()
    assert (found - expected).abs().mean() < 0.01
    inter = ((found > 0.5) & (expected > 0.5)).sum((1, 2))
    union = ((found > 0.5) | (expected > 0.5)).sum((1, 2))
    assert (inter / union).mean() > 0.985
