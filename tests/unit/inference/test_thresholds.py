"""From which score boxes, pixels and labels count."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from densekit import DenseModel, Predictor
from densekit.backbones import ResNet
from densekit.heads import FCN, Classification
from densekit.inference.restore import restore, restore_mask
from densekit.inference.thresholds import best_threshold, chosen_thresholds, confident
from densekit.types import Decision

BEST = {"overall": 0.4, "classes": {"b": 0.6}, "by": "F1 at IoU 0.5"}
INFO = {"names": ["a", "b"], "num_classes": 2, "multilabel": True}


def small(info: dict[str, Any], threshold: Decision | None = None, **heads: Any) -> DenseModel:
    torch.manual_seed(0)
    made = heads or {
        "labels": partial(Classification, num_classes=2, multilabel=True, threshold=threshold)
    }
    return DenseModel(ResNet(18, width=4), made, info={"heads": info}).eval()


def test_measured_thresholds_are_read() -> None:
    found = best_threshold({"names": ["a", "b"], "best_thresholds": BEST})
    assert found is not None
    assert found.values == (0.4, 0.6)
    assert str(found) == "0.40 to 0.60 (measured: F1 at IoU 0.5)"
    assert best_threshold({"names": ["a"]}) is None
    assert best_threshold({"names": ["a"], "best_thresholds": {}}) is None


@pytest.mark.parametrize("broken", [{"overall": "x", "by": ""}, {"overall": 2, "by": ""}, [1], 7])
def test_a_damaged_entry_names_its_key(broken: Any) -> None:
    with pytest.raises(ValueError, match="info: best_thresholds: expected overall and classes"):
        best_threshold({"names": ["a"], "best_thresholds": broken})


def test_what_decides() -> None:
    info = {"labels": {**INFO, "best_thresholds": BEST}}
    measured, own = small(info), small(info, threshold=0.3)
    assert chosen_thresholds(measured, None)["labels"].values == (0.4, 0.6)
    assert chosen_thresholds(own, None)["labels"].values == (0.3, 0.3)
    assert chosen_thresholds(own, "best")["labels"].values == (0.4, 0.6)
    assert chosen_thresholds(own, 0.7)["labels"].values == (0.7, 0.7)
    unmeasured = small({"labels": INFO}, threshold=[0.3, 0.2])
    assert chosen_thresholds(unmeasured, "best")["labels"].values == (0.3, 0.2)
    (nothing,) = chosen_thresholds(small({"labels": INFO}), None).values()
    assert str(nothing) == "0.50 (none was measured)"
    exclusive = small({"m": {"names": ["a", "b"]}}, m=partial(FCN, num_classes=2))
    assert chosen_thresholds(exclusive, "best") == {}


@pytest.mark.parametrize("wrong", [1.5, -0.1, "worst", [0.5, 0.5, 0.5]])
def test_what_is_no_threshold_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="threshold: expected"):
        Predictor(small({"labels": INFO}), threshold=wrong)
    with pytest.raises((ValueError, TypeError)):
        small({"labels": INFO}, threshold=wrong)


def test_the_predictor_decides_and_leaves_the_model_alone() -> None:
    model = small({"labels": {**INFO, "best_thresholds": BEST}})
    image = np.zeros((32, 32, 3), np.uint8)
    probabilities = Predictor(model)(image)[0]["labels"]["probabilities"]
    between = float(probabilities[0]) - 1e-3
    low, high = (Predictor(model, threshold=t)(image)[0]["labels"] for t in (between, 1.0))
    assert 0 in low["labels"]
    assert not len(high["labels"])
    assert model.thresholds == {}


def test_masks_at_a_threshold_per_class() -> None:
    logits = torch.tensor([0.2, 0.7, 0.9]).logit().repeat(2, 1)[:, None]  # (2, 1, 3)
    mask = restore_mask(logits, (1, 3), multilabel=True, threshold=[0.1, 0.8])
    np.testing.assert_array_equal(mask[:, 0], [[1, 1, 1], [0, 0, 1]])
    assert restore_mask(logits[:1], (1, 3), threshold=0.8).tolist() == [[0, 0, 1]]
    assert restore_mask(logits[:1], (1, 3), threshold=1.0).tolist() == [[0, 0, 0]]
    batch: Any = {"size": torch.tensor([[1, 3]]), "meta": [{"original_size": (1, 3)}]}
    predictions = {"m": {"logits": logits[None, :1]}}
    assert restore(predictions, batch, {"m": [0.8]})[0]["m"]["mask"].tolist() == [[0, 0, 1]]
    assert restore(predictions, batch)[0]["m"]["mask"].tolist() == [[0, 1, 1]]


def test_confident_keeps_boxes_of_each_class() -> None:
    result = {
        "boxes": np.arange(12.0).reshape(3, 4),
        "scores": np.array([0.5, 0.5, 0.9]),
        "labels": np.array([0, 1, 1]),
        "names": ["a", "b", "b"],
    }
    kept = confident(result, [0.4, 0.6])
    assert kept["names"] == ["a", "b"]
    np.testing.assert_array_equal(kept["boxes"], result["boxes"][[0, 2]])
    assert len(confident(result, 0.95)["scores"]) == 0
    mask = {"mask": np.zeros((2, 2))}
    assert confident(mask, 0.5) is mask
