"""ATSS: the threshold by hand, centres, conflicts, and the paper's algorithm image by image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from densekit.ops import matching
from densekit.ops.adaptive_matching import AdaptiveRule, match_adaptively


def grid(stride: int, size: float, sides: tuple[int, int] = (64, 96)) -> Tensor:
    y, x = (torch.arange(0, side, stride, dtype=torch.float32) for side in sides)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return (torch.stack([x, y, x, y], -1).view(-1, 4)) + torch.tensor([-1, -1, 1, 1]) * size / 2


def as_in_the_paper(gt: Tensor, levels: list[Tensor], count: int) -> list[int]:
    """Algorithm 1 of one image, object by object; the object of each anchor, -1 for none."""
    anchors = torch.cat(levels)
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    overlap = box_iou(gt, anchors)
    owner, best = [-1] * len(anchors), [-1.0] * len(anchors)
    for number, box in enumerate(gt):
        distance = (centre - (box[:2] + box[2:]) / 2).norm(dim=1)
        chosen, start = [], 0
        for level in levels:
            near = distance[start : start + len(level)].topk(min(count, len(level)), largest=False)
            chosen += (near.indices + start).tolist()
            start += len(level)
        values = overlap[number, chosen]
        for anchor in chosen:
            inside = torch.cat([centre[anchor] - box[:2], box[2:] - centre[anchor]]).min() > 0.01
            value = float(overlap[number, anchor])
            if inside and value >= float(values.mean() + values.std()) and value > best[anchor]:
                owner[anchor], best[anchor] = number, value
    return owner


def test_threshold_by_hand() -> None:
    """IoU 1, 1/3 and 0 have mean .444 and deviation .509, which make .954."""
    anchors = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [20, 0, 28, 8]])
    gt, valid = torch.tensor([[[0.0, 0, 8, 8]]]), torch.ones(1, 1, dtype=torch.bool)
    index, label = match_adaptively(gt, valid, [anchors], AdaptiveRule())
    assert label.tolist() == [[1, 0, 0]]
    assert index[0, 0] == 0
    # all of one IoU: the mean without a deviation, so that all whose centres are inside belong
    same = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]])
    assert match_adaptively(gt, valid, [same], AdaptiveRule())[1].tolist() == [[1, 1, 1]]


def test_centres_lie_inside() -> None:
    anchors = torch.tensor([[-6.0, 0, 6, 12], [50, 50, 51, 51], [60, 50, 61, 51]])
    gt = torch.tensor([[[0.0, 0, 6, 12]]])  # the best anchor's centre is on its side
    label = match_adaptively(gt, torch.ones(1, 1) > 0, [anchors], AdaptiveRule())[1]
    assert label.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("count", [3, 9])
@pytest.mark.parametrize("chunk", [1, 1 << 25])
def test_equals_the_paper(count: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "CHUNK_ELEMENTS", chunk)
    torch.manual_seed(0)
    levels = [grid(8, 64), grid(16, 128), grid(32, 256), grid(64, 512)]
    corner = torch.rand(2, 9, 2) * 60
    gt = torch.cat([corner, corner + 4 + torch.rand(2, 9, 2) * 60], 2)
    valid = torch.arange(9) < torch.tensor([[9], [4]])

    index, label = match_adaptively(gt, valid, levels, AdaptiveRule(count))

    found = torch.where(label == 1, index, -1)
    for image, objects in enumerate([9, 4]):
        expected = as_in_the_paper(gt[image, :objects], levels, count)
        assert found[image].tolist() == expected
        assert len(set(expected)) > 3
    assert index.max() < 9
