"""SimOTA against the published algorithm, object by object and image by image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from densekit.ops import matching, simota
from densekit.ops.anchors import pyramid_anchors
from densekit.ops.simota import Predicted, SimOTARule, in_reach, match_by_cost
from tests.unit.tiny import CLASSES, targets

SIDES = (128, 160)
RULES = [SimOTARule(), SimOTARule(1.5, in_box=False)]


def points() -> Tensor:
    strides = (8, 16, 32)
    grids = tuple((SIDES[0] // s, SIDES[1] // s) for s in strides)
    sizes = tuple((float(s),) for s in strides)
    square = tuple((s, s) for s in strides)
    found = pyramid_anchors(grids, square, sizes, (1.0,), False, torch.device("cpu"), 0.5)
    return found.double()


def predicted(gt: Tensor, valid: Tensor, seed: int) -> Predicted:
    """Noise, with boxes near those of the objects, so that objects get several points each."""
    generator = torch.Generator().manual_seed(seed)
    images, count = len(gt), len(points())
    pick = torch.multinomial(valid.double() + 1e-9, count, replacement=True, generator=generator)
    boxes = gt.gather(1, pick[..., None].expand(-1, -1, 4))
    noise = torch.rand(images, count, 4, generator=generator, dtype=torch.float64)
    boxes = boxes + noise * torch.tensor([-6.0, -6, 6, 6])
    logits = torch.randn(images, count, CLASSES + 1, generator=generator, dtype=torch.float64)
    return Predicted(boxes, 2 * logits[..., 1:], 2 * logits[..., 0])


def one_image(
    gt: Tensor, labels: Tensor, points: Tensor, found: Predicted, rule: SimOTARule
) -> list[int]:
    """Object of each point, -1 for none: Ge et al., section 2.1, and the authors' code."""
    x, y = (points[:, :2] + points[:, 2:]).div(2).unbind(1)
    reach = rule.radius * (points[:, 2] - points[:, 0])
    score = (found.logits.sigmoid() * found.objectness.sigmoid()[:, None]).sqrt()
    possible, first = [], []
    for x1, y1, x2, y2 in gt:
        central = torch.maximum((x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs()) < reach
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2) if rule.in_box else central
        possible.append(inside | central)
        first.append(inside & central)
    candidate = torch.stack(possible).any(0)
    costs, taken = [], torch.zeros(len(gt), len(points), dtype=torch.bool)
    for number, box in enumerate(gt):
        iou = box_iou(box[None], found.boxes)[0]
        wanted = F.one_hot(labels[number], CLASSES).double().expand_as(score)
        cost = F.binary_cross_entropy(score, wanted, reduction="none").sum(1)
        cost = cost - 3 * torch.log(iou + 1e-8) + 1e5 * ~first[number]
        cost[~candidate] = torch.inf
        best = iou[candidate].sort(descending=True).values[: rule.candidates]
        order = cost.argsort()[: max(1, int(best.sum()))]
        taken[number, order[cost[order] < torch.inf]] = True
        costs.append(cost)
    owners = []
    for point in range(len(points)):
        of = taken[:, point].nonzero()[:, 0].tolist()
        dearest = int(torch.stack(costs)[:, point].argmin()) if len(of) > 1 else -1
        owners.append(dearest if len(of) > 1 else (of or [-1])[0])
    return owners


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("elements", [matching.CHUNK_ELEMENTS, 1])
@pytest.mark.parametrize("counts", [[3, 25], [1, 60, 0]])
def test_the_published_algorithm(
    counts: list[int], elements: int, rule: SimOTARule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one object a chunk."""
    monkeypatch.setattr(matching, "CHUNK_ELEMENTS", elements)
    batch = targets(counts, SIDES)
    gt, valid = batch["boxes"].double(), batch["boxes_valid"]
    labels, found = batch["labels"], predicted(gt, valid, seed=len(counts))
    index, label = match_by_cost(gt, valid, labels, points(), found, rule)
    several = 0
    for image, count in enumerate(counts):
        of_image = Predicted(*(part[image] for part in found))
        owners = torch.full((len(points()),), -1)
        if count:
            known = gt[image, :count], labels[image, :count]
            owners = torch.tensor(one_image(*known, points(), of_image, rule))
        assert torch.equal(torch.where(label[image] == 1, index[image].long(), -1), owners)
        several += int((owners >= 0).sum()) - count
    assert several > 20  # more than one point per object


def test_objects_without_a_point() -> None:
    """Beyond the last cells none is near the centre; a large box still has points inside."""
    gt = torch.tensor([[[300.0, 300, 310, 310], [100, 100, 400, 400], [50, 50, 52, 52]]])
    found = [in_reach(gt.double(), points(), rule)[0].tolist() for rule in RULES]
    assert found == [[False, True, True], [False, False, True]]


def test_equal_costs_and_broken_predictions_are_finite() -> None:
    gt, valid = torch.tensor([[[8.0, 8, 40, 40]] * 3]).double(), torch.ones(1, 3).bool()
    noise = predicted(gt, valid, seed=0)
    noise.boxes[:, ::2] = torch.nan
    labels = torch.zeros(1, 3, dtype=torch.int64)
    index, label = match_by_cost(gt, valid, labels, points(), noise, SimOTARule())
    assert set(index[label == 1].tolist()) == {0}
    assert simota.FARTHER > 1e4
