"""Two processes measure and learn categories as one does, however unevenly images lie on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densekit.losses import ImageBinaryCrossEntropy, ImageCrossEntropy
from densekit.metrics import Accuracy, CalibrationError, MultilabelMap
from densekit.testing import run_distributed

pytestmark = pytest.mark.ddp

CLASSES, IMAGES = 7, 9
NAMES = [f"class {n}" for n in range(CLASSES)]
WEIGHTS = [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0]


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, classes and labels of all images."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(IMAGES, CLASSES, generator=generator) * 2
    labels = (torch.rand(IMAGES, CLASSES, generator=generator) < 0.4).float()
    return logits, torch.randint(0, CLASSES, (IMAGES,), generator=generator), labels


def figures_of(batches: list[list[int]]) -> tuple[dict[str, float], Any, Any]:
    logits, classes, labels = problem()
    found = {}
    accuracy = Accuracy(NAMES)
    for metric, target in (
        (accuracy, classes),
        (CalibrationError(), classes),
        (MultilabelMap(NAMES), labels),
    ):
        for rows in batches:
            results = [{"probabilities": logits[i].softmax(0).numpy()} for i in rows]
            truth: Any = [{"image_id": i, "category": target[i].numpy()} for i in rows]
            metric.update(results, truth)
        found |= {name: float(value) for name, value in metric.compute().items()}
    return found, accuracy.confusion().tolist(), accuracy.cases()


def gradients(rows: list[int]) -> list[list[list[float]]]:
    """Of each loss by the logits of all images; only those of `rows` are seen."""
    logits, classes, labels = problem()
    found = []
    for loss, target in (
        (ImageCrossEntropy(WEIGHTS, 0.1), classes),
        (ImageCrossEntropy(), labels.softmax(1)),
        (ImageBinaryCrossEntropy(WEIGHTS), labels),
    ):
        leaf = logits.clone().requires_grad_()
        loss(leaf[rows], target[rows]).backward()
        assert leaf.grad is not None
        found.append(leaf.grad.tolist())
    return found


def everything(rank: int) -> dict[str, Any]:
    mine = list(range(rank, IMAGES, 2))  # 5 and 4 images
    return {
        "figures": figures_of([mine[i : i + 2] for i in range(0, 6, 2)]),
        "lonely": figures_of([list(range(IMAGES))] if rank == 1 else []),
        "gradients": gradients([0, 1, 2, 3, 4, 5] if rank == 0 else [6, 7, 8]),
    }


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    """What each of two processes found; they start once for all tests, which takes seconds."""
    return run_distributed(everything, 2)


@pytest.mark.parametrize("split", ["figures", "lonely"])
def test_figures_of_two_processes_equal_those_of_one_exactly(
    ranks: list[dict[str, Any]], split: str
) -> None:
    alone = figures_of([[i] for i in range(IMAGES)])
    assert len(alone[2]) == IMAGES
    for found in ranks:
        np.testing.assert_equal(found[split], alone)


def test_gradients_averaged_over_processes_are_those_of_one(ranks: list[dict[str, Any]]) -> None:
    alone = gradients(list(range(IMAGES)))
    for number, expected in enumerate(alone):
        both = np.mean([found["gradients"][number] for found in ranks], axis=0)
        np.testing.assert_allclose(both, expected, rtol=1e-5, atol=1e-7)
