"""Every check of a metric lets a good one pass and catches the defect it is there for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from densekit.metrics import Accuracy, CocoMap, Identification, MeanIoU, Verification
from densekit.testing import check_metric, report
from densekit.testing.metric import CHECKS, MetricSubject
from densekit.testing.samples import synthetic_results
from densekit.types import Result, Truth

NAMES = ["a", "b", "c"]
RESULTS, TRUTH = synthetic_results(len(NAMES))


class Confidence(Metric):
    """Mean of the highest probability, of all images and of those of each class."""

    full_state_update = False
    higher_is_better: Any = True
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.set_dtype(torch.float64)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        rows = [
            (t["image_id"], int(t["category"]), float(r["probabilities"].max()))
            for r, t in zip(results, truth, strict=True)
        ]
        self.rows.append(torch.tensor(rows, dtype=torch.float64).reshape(-1))

    def table(self) -> Tensor:
        """(N, 3) id, class and probability, by id."""
        rows = dim_zero_cat(self.rows if len(self.rows) else [torch.zeros(0)]).reshape(-1, 3)
        return rows[rows[:, 0].argsort()]

    def compute(self) -> dict[str, Tensor]:
        table = self.table()
        if not len(table):
            logging.getLogger("densekit").warning("confidence is nan: no images")
        of_class = {
            f"confidence/{name}": table[table[:, 1] == label, 2].mean()
            for label, name in enumerate(NAMES)
        }
        return {"confidence": table[:, 2].mean(), **of_class}


class BetterByWord(Confidence):
    higher_is_better = "max"


class InPlace(Confidence):
    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        for result in results:
            result["probabilities"].clip(0, 0.5, out=result["probabilities"])
        super().update(results, truth)


class OtherClass(Confidence):
    def compute(self) -> dict[str, Tensor]:
        return {**super().compute(), "confidence/dog": torch.ones(())}


class Table(Confidence):
    def compute(self) -> dict[str, Tensor]:
        return {**super().compute(), "table": torch.ones(3)}


class ZeroOfNothing(Confidence):
    def compute(self) -> dict[str, Tensor]:
        return {name: value.nan_to_num(0) for name, value in super().compute().items()}


class Silent(Confidence):
    def compute(self) -> dict[str, Tensor]:
        table = self.table()
        return {"confidence": table[:, 2].mean()}


class OnlyIfAny(Confidence):
    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        if results:
            super().update(results, truth)


class FirstCounts(Confidence):
    def table(self) -> Tensor:
        rows = dim_zero_cat(self.rows if len(self.rows) else [torch.zeros(0)]).reshape(-1, 3)
        return rows[: max(1, len(rows) // 2)]


class MeanOfBatches(Confidence):
    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        super().update(results, truth)
        rows = self.rows[-1].reshape(-1, 3)
        rows[:, 2] = rows[:, 2].mean() + len(rows) if len(rows) else 0


class KeepsCount(Confidence):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        super().update(results, truth)
        self.seen += len(results)

    def compute(self) -> dict[str, Tensor]:
        return {**super().compute(), "seen": torch.tensor(float(self.seen))}


class KeepsBoxCounts(Confidence):
    """Counts predicted boxes in a plain list, which `reset` does not empty."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        super().update(results, truth)
        self.counts += [self.count(r, t) for r, t in zip(results, truth, strict=True)]

    def count(self, result: Result, truth: Truth) -> int:
        return len(result["boxes"])

    def compute(self) -> dict[str, Tensor]:
        return {**super().compute(), "boxes": torch.tensor(self.counts).double().mean()}


class KeepsTruthCounts(KeepsBoxCounts):
    def count(self, result: Result, truth: Truth) -> int:
        return len(truth["boxes"])


class KeepsCountErrors(KeepsBoxCounts):
    def count(self, result: Result, truth: Truth) -> int:
        return abs(len(result["boxes"]) - len(truth["boxes"]))


class NamedLoss(Confidence):
    def compute(self) -> dict[str, Tensor]:
        return {**super().compute(), "loss": torch.ones(())}


class NamedLossTerm(Confidence):
    def compute(self) -> dict[str, Tensor]:
        return {**super().compute(), "loss/a": torch.ones(())}


class FewCases(Confidence):
    def cases(self) -> list[dict[str, Any]]:
        return [{"image_id": 0}]


class KeepsOwnRows(Confidence):
    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx=of_first_process)


def of_first_process(rows: list[Tensor]) -> Tensor:
    return rows[0]


DEFECTS = (
    ("declares", BetterByWord),
    ("leaves inputs alone", InPlace),
    ("numbers", OtherClass),
    ("nothing", ZeroOfNothing),
    ("nothing", Silent),
    ("appends", OnlyIfAny),
    ("order", FirstCounts),
    ("batches", MeanOfBatches),
    ("numbers", NamedLoss),
    ("numbers", NamedLossTerm),
    ("resets", KeepsCount),
    ("resets", KeepsBoxCounts),
    ("resets", KeepsTruthCounts),
    ("resets", KeepsCountErrors),
    ("offers", FewCases),
)
ALONE = tuple(check for check in CHECKS if check.name != "two processes")


def failed(metric: Metric) -> list[str]:
    results, truth = synthetic_results(len(NAMES))
    outcomes = report(MetricSubject(metric, results, truth, NAMES), ALONE)
    return [outcome.name for outcome in outcomes if outcome.error]


@pytest.mark.parametrize("metric", [Confidence(), Accuracy(NAMES), CocoMap(NAMES), MeanIoU(NAMES)])
def test_good_metric_passes(metric: Metric) -> None:
    assert failed(metric) == []


@pytest.mark.parametrize("metric", [Verification([0.1]), Identification()])
def test_metrics_of_embeddings_pass(metric: Metric) -> None:
    assert failed(metric) == []


@pytest.mark.parametrize(("name", "metric"), DEFECTS)
def test_a_defect_is_found_by_its_check_alone(name: str, metric: type[Metric]) -> None:
    assert failed(metric()) == [name]


def test_a_table_is_no_number() -> None:
    assert "numbers" in failed(Table())


@pytest.mark.ddp
def test_a_state_that_is_not_gathered_is_found() -> None:
    check_metric(Confidence(), names=NAMES)
    with pytest.raises(AssertionError, match=r"(?s)1 of 10.*two processes.*found: confidence is"):
        check_metric(KeepsOwnRows(), names=NAMES)


def test_every_check_can_fail() -> None:
    assert {*dict(DEFECTS), "two processes"} == {check.name for check in CHECKS}


def test_made_up_results_are_neither_perfect_nor_hopeless() -> None:
    metric = Accuracy(NAMES)
    metric.update(RESULTS, TRUTH)
    assert 0 < float(metric.compute()["accuracy"]) < 1
    assert np.unique([truth["image_id"] for truth in TRUTH]).size == len(TRUTH)
