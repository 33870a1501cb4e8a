from __future__ import annotations

import torch

from densekit.app.studies.benchmark.agreement import agreement


def detections(*boxes: list[float], labels: list[int]) -> dict[str, dict[str, torch.Tensor]]:
    """One image, with one more slot that is not valid."""
    rows = torch.tensor([[*boxes, [0.0, 0.0, 0.0, 0.0]]])
    valid = torch.tensor([[True] * len(boxes) + [False]])
    return {"head": {"boxes": rows, "labels": torch.tensor([[*labels, 0]]), "valid": valid}}


BOX, FAR = [10.0, 10.0, 60.0, 60.0], [200.0, 10.0, 250.0, 60.0]


def test_boxes_of_the_same_class_agree_however_they_are_ordered() -> None:
    expected = detections(BOX, FAR, labels=[0, 1])
    assert agreement(expected, detections(FAR, [11.0, 10.0, 61.0, 60.0], labels=[1, 0])) == 1.0
    assert agreement(expected, detections(BOX, FAR, labels=[0, 0])) == 0.5
    assert agreement(expected, detections(BOX, labels=[0])) == 2 / 3
    assert agreement(expected, detections(labels=[])) == 0.0


def test_a_box_without_area_agrees_with_itself() -> None:
    empty = detections([10.0, 10.0, 10.0, 60.0], labels=[0])
    assert agreement(empty, empty) == 1.0
    assert agreement(empty, detections([12.0, 10.0, 12.0, 60.0], labels=[0])) == 0.0


def test_pixels_agree_by_their_class() -> None:
    logits = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert agreement({"head": {"logits": logits}}, {"head": {"logits": 3 * logits}}) == 1.0
    assert agreement({"head": {"logits": logits}}, {"head": {"logits": logits.flip(3)}}) == 0.0
    binary = torch.tensor([[[[1.0, -1.0]]]])
    assert agreement({"head": {"logits": binary}}, {"head": {"logits": binary.abs()}}) == 0.5


def test_the_head_that_agrees_least_counts() -> None:
    expected = {"one": {"embedding": torch.eye(2)}, "two": {"probabilities": torch.eye(2)}}
    found = {"one": {"embedding": torch.eye(2)}, "two": {"probabilities": torch.eye(2).flip(0)}}
    assert agreement(expected, found) == 0.0
