"""Losses of categories: torch's numbers, soft targets, weights, bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densekit.losses import ImageBinaryCrossEntropy, ImageCrossEntropy

WEIGHTS = [1.0, 0.5, 2.0, 0.0, 3.0]


def problem(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 5, generator=generator) * 3
    return logits.requires_grad_(), torch.randint(0, 5, (6,), generator=generator)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_are_torch_s_cross_entropy(weights: list[float] | None, smoothing: float) -> None:
    logits, category = problem()
    expected = F.cross_entropy(
        logits,
        category,
        weight=None if weights is None else torch.tensor(weights),
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(ImageCrossEntropy(weights, smoothing)(logits, category), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_hot_shares_are_the_classes(weights: list[float] | None) -> None:
    logits, category = problem()
    loss = ImageCrossEntropy(weights, 0.1)
    torch.testing.assert_close(loss(logits, F.one_hot(category, 5).float()), loss(logits, category))


def test_shares_are_weighted_logarithms() -> None:
    logits, _ = problem()
    shares = torch.rand(6, 5).softmax(1)
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(ImageCrossEntropy()(logits, shares), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_labels_are_torch_s_binary_cross_entropy(weights: list[float] | None) -> None:
    logits, _ = problem()
    labels = torch.randint(0, 2, (6, 5)).float()
    w = torch.ones(5) if weights is None else torch.tensor(weights)
    every = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    expected = (every * w).sum() / (w.sum() * 6)
    torch.testing.assert_close(ImageBinaryCrossEntropy(weights)(logits, labels), expected)
    smooth = F.binary_cross_entropy_with_logits(logits, labels * 0.8 + 0.1)
    torch.testing.assert_close(ImageBinaryCrossEntropy(label_smoothing=0.2)(logits, labels), smooth)


@pytest.mark.parametrize("kind", [ImageCrossEntropy, ImageBinaryCrossEntropy])
def test_sixteen_bits_are_computed_in_thirty_two(kind: type) -> None:
    logits = torch.tensor([[60.0, -60.0]], dtype=torch.bfloat16)
    shares = torch.tensor([[0.0, 1.0]])
    assert kind()(logits, shares).dtype == torch.float32
    torch.testing.assert_close(kind()(logits, shares), kind()(logits.float(), shares))


@pytest.mark.parametrize("kind", [ImageCrossEntropy, ImageBinaryCrossEntropy])
def test_bad_settings_are_refused(kind: type) -> None:
    with pytest.raises(
        ValueError, match=rf"{kind.__name__}.label_smoothing: expected 0 to 1, got 2"
    ):
        kind(label_smoothing=2)
    with pytest.raises(ValueError, match="class_weights: expected weights of at least 0"):
        kind([1, -1])
    with pytest.raises(
        ValueError, match=r"class_weights: expected one value per class \(3\), got 2"
    ):
        kind([1, 1])(torch.zeros(1, 3), torch.zeros(1, 3))


def test_targets_of_the_other_kind_are_refused() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"category: expected \(B, K\) floats .* got \(2,\) int64"):
        ImageBinaryCrossEntropy()(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"\(B,\) integers or \(B, K\) floats .* got \(2, 4\)"):
        ImageCrossEntropy()(logits, torch.zeros(2, 4))
