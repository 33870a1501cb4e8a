"""Matching of default boxes equals torchvision's image by image, in chunks or not."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from densekit.ops import matching
from densekit.ops.matching import NEGATIVE, POSITIVE
from densekit.ops.multibox_matching import match_multibox


@pytest.mark.parametrize("elements", [1, 3 * 60 * 3, 1 << 25])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_equals_torchvision(
    threshold: float, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "CHUNK_ELEMENTS", elements)
    torch.manual_seed(0)
    corner = torch.rand(60, 2) * 12
    boxes = torch.cat([corner, corner + 2 + torch.rand(60, 2) * 7], 1)
    gt = boxes[torch.randint(0, 60, (3, 8))] + torch.rand(3, 8, 4)
    gt[0, 5] = gt[0, 2]  # both have the same best box: the later object has it
    valid = torch.arange(8) < torch.tensor([8, 3, 0])[:, None]

    index, label = match_multibox(gt, valid, boxes, threshold)

    assert (label[2] == NEGATIVE).all()
    for image in range(2):
        expected = SSDMatcher(threshold)(box_iou(gt[image][valid[image]], boxes))
        positive = expected >= 0
        assert torch.equal(label[image] == POSITIVE, positive)
        assert torch.equal(index[image][positive], expected[positive])


def test_an_object_far_away_claims_no_box() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4]])
    gt = torch.tensor([[[90.0, 90, 99, 99]]])
    _, label = match_multibox(gt, torch.ones(1, 1, dtype=torch.bool), boxes, 0.5)
    assert (label == NEGATIVE).all()
