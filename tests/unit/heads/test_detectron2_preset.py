"""Presets on batches of small and broken images."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from densekit.heads.faster_rcnn import (
    detectron2_preset,
    torchvision_preset,
)
from densekit.heads.faster_rcnn.proposals import select_proposals
from densekit.ops.roi import pyramid_table
from tests.unit.tiny import (
    spread,
    targets,
    tiny_detector,
)


def detectron2_proposals(
    logits: Tensor, boxes: Tensor, size: Tensor, post: int, iou: float
) -> list[Tensor]:
    """`find_top_rpn_proposals`: clip, leave out what has no area, suppress by level, best first."""
    found = []
    for scores, image, (height, width) in zip(logits, boxes, size.tolist(), strict=True):
        x, y = image[..., 0::2].clamp(0, width), image[..., 1::2].clamp(0, height)
        flat = torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1).flatten(0, 1)
        level = torch.arange(len(scores))[:, None].expand_as(scores).flatten()
        filled = (flat[:, 2] - flat[:, 0] > 0) & (flat[:, 3] - flat[:, 1] > 0)
        flat, score, level = flat[filled], scores.flatten()[filled], level[filled]
        found.append(flat[batched_nms(flat, score, level, iou)[:post]])
    return found


@pytest.mark.parametrize("backend", ["static", "ragged"])
@pytest.mark.parametrize("seed", range(8))
def test_proposals_of_small_images_in_a_batch_are_detectron2s(backend: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 2, 60, generator=generator).sort(descending=True).values
    corner = torch.rand(3, 2, 60, 2, generator=generator) * 90  # of the padding too
    side = torch.rand(3, 2, 60, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + side], -1)
    size = torch.tensor([[96, 96], [40, 64], [20, 9]])
    rule = detectron2_preset()["rpn"].keywords["proposals"]
    found = select_proposals(logits, boxes, size, 100, 0.7, rule.min_size, backend)
    expected = detectron2_proposals(logits, boxes, size, 100, 0.7)
    for kept, valid, boxes in zip(found.boxes, found.valid, expected, strict=True):
        torch.testing.assert_close(kept[valid], boxes)
        assert not kept[~valid].any()


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", ["static", "ragged"])
@pytest.mark.parametrize(
    "preset", [torchvision_preset(), detectron2_preset()], ids=["torchvision", "detectron2"]
)
def test_a_broken_image_does_not_touch_the_others(
    preset: dict[str, Any], backend: str, value: float, bad: int
) -> None:
    preset = {**preset, "box_head": partial(preset["box_head"], hidden=(16,)), "backend": backend}
    model = tiny_detector(**preset).eval()
    spread(model)
    batch = targets([2, 3])
    image = batch["image"].float()
    with torch.no_grad():
        expected = model.predict({**batch, "image": image})["detection"]
        image[bad, 0, 3, 4] = value
        found = model.predict({**batch, "image": image})["detection"]
        features = model.features({**batch, "image": image})
        head = model.heads["detection"]
        levels = [features[name] for name in head.reads]
        logits, _ = head.rpn.at(pyramid_table(levels), torch.arange(600).expand(2, -1))
    good = 1 - bad
    assert found["valid"][good].any()
    for key in ("boxes", "scores", "labels", "valid"):
        torch.testing.assert_close(found[key][good], expected[key][good])
    assert found["boxes"][found["valid"]].isfinite().all()  # far from the pixel there may be some
    assert logits[good].isfinite().all()
