"""Every check of the contract lets a good head pass and catches the defect it is there for."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from densekit.heads import Head
from densekit.ops.dist import global_count
from densekit.testing import check_head, report
from densekit.testing.head_checks import CHECKS
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.subject import Subject
from densekit.types import Batch, Features, Predictions, Specs

CLASSES = 3
BY_NAME = {check.name: check for check in CHECKS}


class Presence(Head):
    """Which classes an image shows."""

    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__()
        self.reads = ("c3",)
        self.target_keys = ("labels", "boxes_valid", "crowd")
        self.scores = nn.Conv2d(specs["c3"].channels, num_classes, kernel_size=1)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return {"scores": self.scores(features["c3"]).mean((2, 3))}  # (B, K)

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"presence": outputs["scores"].sigmoid()}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        scores = self(features, batch["size"])["scores"]
        loss = F.binary_cross_entropy_with_logits(scores, targets(batch, scores), reduction="none")
        return {"bce": loss.sum() / global_count(batch["sample_valid"].sum())}


def targets(batch: Batch, scores: Tensor) -> Tensor:
    """(B, K) 1 where an image has an object of the class."""
    counted = batch["boxes_valid"] & ~batch["crowd"]  # (B, T)
    return (F.one_hot(batch["labels"], CLASSES) * counted[..., None]).amax(1).to(scores.dtype)


class ListedReads(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.reads = ["c3"]  # type: ignore[assignment]


class InPlace(Presence):
    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            features["c3"].mul_(2)
        return super().forward(features, size)


class BrightPixels(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.reads = ("c0", "c3")

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return super().forward(features, size) | {"bright": (features["c0"] > 1).nonzero()}


class BareBoxes(Presence):
    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"boxes": outputs["scores"].new_zeros(len(size), 1, 4)}


class UnusedLayer(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.never = nn.Linear(2, 2)


class MeanOfPresent(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        scores = self(features, batch["size"])["scores"]
        return {"nll": -F.logsigmoid(scores[targets(batch, scores) > 0]).mean()}


class FewSlots(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        if batch["labels"].shape[1] > 100:
            raise RuntimeError("more than 100 objects")
        return super().loss(features, batch)


class NormOverBatch(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.norm = nn.BatchNorm1d(num_classes)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return {"scores": self.norm(super().forward(features, size)["scores"])}


class FixedSize(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.flat = nn.Linear(8 * 8, 1)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return {"scores": self.flat(self.scores(features["c3"]).flatten(2))[..., 0]}


class ThreeChannels(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.reads = ("c0", "c3")
        self.colour = nn.Conv2d(3, num_classes, kernel_size=1)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        scores = super().forward(features, size)["scores"]
        return {"scores": scores + self.colour(features["c0"]).mean((2, 3))}


class LogOfRounded(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        scores = self(features, batch["size"])["scores"]
        absent = 1 - (scores + 8).sigmoid()  # 0 in bfloat16
        return {"log": -absent.log().mean()}


class TrainingTerm(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        terms = super().loss(features, batch)
        return terms | {"aux": terms["bce"]} if self.training else terms


class OwnDice(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        terms = super().loss(features, batch)
        return {"bce": terms["bce"] * (1 + float(np.random.default_rng().random()))}


class Branches(Presence):
    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        scores = super().forward(features, size)["scores"]
        return {"scores": scores if scores.sum() > 0 else -scores}


class HiddenState(Presence):
    def __init__(self, specs: Specs, num_classes: int) -> None:
        super().__init__(specs, num_classes)
        self.seen = torch.zeros(num_classes)

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"presence": outputs["scores"].sigmoid() + self.seen}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        self.seen = self.seen + 1
        return super().loss(features, batch)


class Stacked(Metric):
    def update(self, results: list[Any], truth: list[Any]) -> None:
        torch.stack([torch.as_tensor(result["presence"]) for result in results])

    def compute(self) -> Tensor:
        return torch.zeros(())


class NoEmptyBatch(Presence):
    def make_metrics(self, info: Any) -> dict[str, Metric]:
        return {"stacked": Stacked()}


class Counted(Metric):
    def update(self, results: list[Any], truth: list[Any]) -> None:
        pass

    def compute(self) -> dict[str, Tensor]:
        return {"count": torch.zeros(())}


class OtherMain(Presence):
    main_metric = ("counted", "max")

    def make_metrics(self, info: Any) -> dict[str, Metric]:
        return {"counted": Counted()}


class Stuck(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        return {"bce": super().loss(features, batch)["bce"] * 1e-12 + 1}


class OwnMean(Presence):
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        scores = self(features, batch["size"])["scores"]
        weight = targets(batch, scores)
        terms = F.binary_cross_entropy_with_logits(scores, weight, weight, reduction="sum")
        return {"bce": terms / weight.sum().clamp(min=1)}


DEFECTS = {
    "declares": ListedReads,
    "leaves inputs alone": InPlace,
    "static shapes": BrightPixels,
    "results": BareBoxes,
    "gradients": UnusedLayer,
    "no object": MeanOfPresent,
    "all ignored": MeanOfPresent,
    "500 objects": FewSlots,
    "batch of one": NormOverBatch,
    "odd sizes": FixedSize,
    "1 channel": ThreeChannels,
    "4 channels": ThreeChannels,
    "bf16": LogOfRounded,
    "eval equals train": TrainingTerm,
    "determined": OwnDice,
    "compiles": Branches,
    "exports": Branches,
    "saves": HiddenState,
    "metrics": NoEmptyBatch,
    "learns": Stuck,
    "two processes": OwnMean,
}


def _error(head: type[Head], name: str) -> str | None:
    samples, info = synthetic_samples(CLASSES), synthetic_info(CLASSES)
    subject = Subject(partial(head, num_classes=CLASSES), samples, {}, info)
    (outcome,) = report(subject, [BY_NAME[name]])
    return outcome.error


def test_a_main_metric_that_no_metric_gives_is_named() -> None:
    assert "main_metric 'counted' is not in" in str(_error(OtherMain, "metrics"))


@pytest.mark.ddp
def test_good_head_passes() -> None:
    check_head(partial(Presence, num_classes=CLASSES), CLASSES)


@pytest.mark.parametrize("name", [name for name in DEFECTS if name != "two processes"])
def test_defect_is_found(name: str) -> None:
    assert _error(DEFECTS[name], name)


@pytest.mark.ddp
def test_mean_of_each_process_is_found() -> None:
    error = _error(OwnMean, "two processes")
    assert error is not None
    assert "differs from a single process" in error


def test_failure_names_check_contract_and_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densekit.testing.head.CHECKS", [BY_NAME["4 channels"]])
    with pytest.raises(AssertionError, match=r"(?s)4 channels: .*four channels.*found: Runtime"):
        check_head(partial(ThreeChannels, num_classes=CLASSES), CLASSES)
