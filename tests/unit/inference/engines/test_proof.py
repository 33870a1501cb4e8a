"""The comparison of an engine's predictions with float32."""

from __future__ import annotations

import pytest
import torch

from densekit.inference.engines.proof import first_difference, is_comparable
from densekit.types import Predictions

LOGITS = torch.linspace(-3, 3, 64).view(1, 4, 4, 4)


def boxes(*rows: tuple[float, float, int]) -> Predictions:
    """Boxes of side 10 at an offset, with score and label; one invalid row at the end."""
    offset = torch.tensor([[row[0] for row in rows] + [0]])[..., None]
    return {
        "boxes": torch.tensor([0.0, 0, 10, 10]) + offset,
        "scores": torch.tensor([[row[1] for row in rows] + [0]]),
        "labels": torch.tensor([[row[2] for row in rows] + [0]]),
        "valid": torch.tensor([[True] * len(rows) + [False]]),
    }


@pytest.mark.parametrize(("precision", "noise"), [("fp32", 1e-4), ("bf16", 1e-2), ("int8", 0.1)])
def test_rounding_is_accepted_and_more_is_not(precision: str, noise: float) -> None:
    expected = {"mask": {"logits": LOGITS}}
    assert first_difference(expected, {"mask": {"logits": LOGITS * (1 + noise)}}, precision) is None
    for wrong in (LOGITS * (1 + 20 * noise), LOGITS * torch.nan, LOGITS + 1e37):
        found = first_difference(expected, {"mask": {"logits": wrong}}, precision)
        assert found is not None
        assert found.startswith("heads.mask: expected logits within")


def test_boxes_are_found_again_whatever_their_order() -> None:
    expected = {"detection": boxes((0, 0.9, 1), (50, 0.8, 2), (90, 0.1, 0))}
    same = {"detection": boxes((51, 0.85, 2), (1, 0.84, 1))}
    assert first_difference(expected, same, "fp32") is None
    other = {"detection": boxes((50, 0.85, 1), (1, 0.84, 1))}
    message = "heads.detection: expected at least 95% of the boxes of float32, got 50%"
    assert first_difference(expected, other, "fp32") == message


def test_without_boxes_there_is_nothing_to_compare() -> None:
    assert not is_comparable({"detection": boxes()})
    assert is_comparable({"detection": boxes((0, 0.9, 1))})
    assert is_comparable({"detection": boxes(), "mask": {"logits": LOGITS}})
    assert first_difference({"detection": boxes()}, {"detection": boxes()}, "fp32") is None
