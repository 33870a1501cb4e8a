"""torchvision's one-stage detectors and ours: detections, losses and gradients."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from densekit.inference.restore import restore
from densekit.interop import from_torchvision
from tests.parity.torchvision_training import as_batch, distances, targets


def detections(model: Any, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """Ours, in the frames of the images."""
    batch = as_batch(images, targets(images, [0, 0], 1))
    resized = model.resized({key: batch[key] for key in ("image", "size", "meta")})
    with torch.no_grad():
        return [found["detection"] for found in restore(model.predict(resized), resized)]


def check_detections(theirs: Any, images: list[Tensor]) -> None:
    """Compares boxes, scores and labels."""
    with torch.no_grad():
        expected = theirs(images)

    found = detections(from_torchvision(theirs), images)

    for ours, rows in zip(found, expected, strict=True):
        assert len(rows["boxes"]) > 50
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(
                torch.as_tensor(ours[key]), rows[key], check_dtype=False, rtol=1e-5, atol=1e-4
            )


def check_training(
    theirs: Any, images: list[Tensor], counts: tuple[int, int], terms: Mapping[str, str]
) -> None:
    """Compares the losses, by their names there and here, and the gradient of every parameter."""
    annotations = targets(images, list(counts), theirs.head.classification_head.num_classes - 1)
    ours, carrier = from_torchvision(theirs), copy.deepcopy(theirs)
    expected = theirs.train()(images, copy.deepcopy(annotations))
    sum(expected.values()).backward()
    for source, target in zip(theirs.parameters(), carrier.parameters(), strict=True):
        target.data = source.grad
    reference = dict(from_torchvision(carrier).named_parameters())

    batch = as_batch(images, annotations)
    batch["labels"] = batch["labels"] + 1  # here the labels are the numbers of the outputs
    found = ours.train().loss(ours.resized(batch))
    sum(found.values()).backward()

    assert expected.keys() == terms.keys()
    for name, own in terms.items():
        assert found[f"detection/{own}"].item() == pytest.approx(expected[name].item())
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    errors = distances(gradients, reference)
    assert max(errors.values()) < 1e-4, max(errors.items(), key=lambda item: item[1])
