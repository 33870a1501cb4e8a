"""Metrics by head and name, and what of them is optional."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from densekit.metrics import (
    Accuracy,
    CocoMap,
    DiceScore,
    HasCases,
    HasConfusion,
    HasFacts,
    Verification,
)
from densekit.training.metric_set import MetricSet


class Count(Metric):
    """A user's own: `torchmetrics.Metric` and nothing of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("seen", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, results: list[dict[str, Any]], truth: list[dict[str, Any]]) -> None:
        self.seen += len(truth)

    def compute(self) -> Tensor:
        return self.seen


class Telling(Count):
    """With all that a metric may offer beside."""

    names = ("cat", "dog")

    def cases(self) -> list[dict[str, Any]]:
        return [{"image_id": 7, "error": 0.5}]

    def confusion(self) -> Any:
        return np.eye(2, dtype=np.int64)

    def facts(self) -> dict[str, Any]:
        return {"threshold": 0.25}


def updated(metric: Metric) -> MetricSet:
    metrics = MetricSet({"x": {"count": metric}})
    metrics.reset(torch.device("cpu"))
    metrics.update([{"x": {}}, {"x": {}}], [{"image_id": 1}, {"image_id": 2}])
    return metrics


def test_a_plain_metric_of_torchmetrics_is_enough() -> None:
    metrics, info = updated(Count()), dict[str, Any]()
    assert metrics.compute() == {"x/count": 2}
    assert metrics.cases() == []
    assert metrics.confusions() == {}
    metrics.note_facts(info)
    assert info == {}


def test_what_a_metric_offers_beside_is_taken() -> None:
    metrics, info = updated(Telling()), {"heads": {"x": {"names": ["a"]}}}
    assert metrics.compute() == {"x/count": 2}
    assert metrics.cases() == [{"head": "x", "image_id": 7, "error": 0.5}]
    names, counts = metrics.confusions()["x"]
    assert list(names) == ["cat", "dog"]
    assert counts.tolist() == [[1, 0], [0, 1]]
    metrics.note_facts(info)
    assert info == {"heads": {"x": {"names": ["a"], "threshold": 0.25}}}
    metrics.metrics["x"]["count"].facts = dict  # type: ignore[assignment]
    metrics.note_facts(info)  # nothing was measured this time
    assert info == {"heads": {"x": {"names": ["a"]}}}


@pytest.mark.parametrize(
    ("metric", "offered"),
    [
        (CocoMap(["cat"]), (HasCases, HasConfusion, HasFacts)),
        (DiceScore(["cat"]), (HasCases,)),
        (Accuracy(["cat", "dog"]), (HasCases, HasConfusion)),
        (Verification(), (HasFacts,)),
    ],
)
def test_what_ours_offer(metric: Metric, offered: tuple[type, ...]) -> None:
    assert tuple(p for p in (HasCases, HasConfusion, HasFacts) if isinstance(metric, p)) == offered


def test_images_are_drawn_with_their_group() -> None:
    truth = [
        {"image_id": i, "category": np.int64(i % 2), "group": f"patient {i // 4}"}
        for i in range(40)
    ]
    right = [{"x": {"probabilities": np.eye(2)[i // 4 % 2]}} for i in range(40)]
    widths = []
    for grouped in (False, True):
        metrics = MetricSet({"x": {"a": Accuracy(["cat", "dog"]), "n": Count()}})
        metrics.reset(torch.device("cpu"))
        metrics.update(right, truth if grouped else [t | {"group": t["image_id"]} for t in truth])
        value = metrics.compute()["x/accuracy"]
        assert metrics.intervals == {}
        metrics.draw_intervals(300)
        assert metrics.intervals.keys() >= {"x/accuracy", "x/accuracy/cat"}  # not that of Count
        low, high = metrics.intervals["x/accuracy"]
        assert low <= value <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # half of each patient's images are right
    metrics.reset(torch.device("cpu"))
    assert metrics.intervals == {}
