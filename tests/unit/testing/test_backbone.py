"""Every check of a backbone lets a good one pass and catches the defect it is there for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.backbones import Backbone
from densekit.testing import check_backbone, check_backbone_graphs, report
from densekit.testing.backbone import CHECKS, GRAPH_CHECKS, BackboneSubject
from densekit.testing.contract import Check
from densekit.types import Features, FeatureSpec


class Stages(Backbone):
    """Convolutions of stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(
            {
                "c1": nn.Conv2d(3, 4, kernel_size=3, stride=2, padding=1),
                "c2": nn.Conv2d(4, 4, kernel_size=3, stride=2, padding=1),
            }
        )
        self.features = {
            "c0": FeatureSpec(3, (1, 1)),
            "c1": FeatureSpec(4, (2, 2)),
            "c2": FeatureSpec(4, (4, 4)),
        }

    def forward(self, x: Tensor) -> Features:
        levels = {"c0": x}
        for name, stage in self.stages.items():
            x = levels[name] = stage(x)
        return levels

    def trim(self, levels: Iterable[str]) -> None:
        deepest = max(levels)
        self.features = {name: spec for name, spec in self.features.items() if name <= deepest}
        self.stages = nn.ModuleDict({n: s for n, s in self.stages.items() if n <= deepest})


class NoDivisor(Stages):
    size_divisor = 0


class InPlace(Stages):
    def forward(self, x: Tensor) -> Features:
        return super().forward(x.clamp_(min=0))


class FixedSize(Stages):
    def forward(self, x: Tensor) -> Features:
        levels = super().forward(x)
        return {**levels, "c1": F.interpolate(levels["c1"], size=(32, 32))}


class FinerInTraining(Stages):
    def forward(self, x: Tensor) -> Features:
        levels = super().forward(x)
        finer = F.interpolate(levels["c1"], scale_factor=2)
        return {**levels, "c1": finer} if self.training else levels


class Divides(Stages):
    def forward(self, x: Tensor) -> Features:
        levels = super().forward(x)
        almost_one = levels["c1"] * 0 + (1 - 1e-4)  # 1 in bfloat16
        return {**levels, "c1": levels["c1"] / (1 - almost_one)}


class Halved(Stages):
    scale = 2.0

    def forward(self, x: Tensor) -> Features:
        levels = super().forward(x)
        return {**levels, "c1": levels["c1"] * self.scale}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "scale": self.scale / 2}


class Unused(Stages):
    def __init__(self) -> None:
        super().__init__()
        self.never: nn.Module = nn.Linear(2, 2)

    def trim(self, levels: Iterable[str]) -> None:
        super().trim(levels)
        self.never = nn.Identity()


class KeepsStages(Stages):
    def trim(self, levels: Iterable[str]) -> None:
        deepest = max(levels)
        self.features = {name: spec for name, spec in self.features.items() if name <= deepest}

    def forward(self, x: Tensor) -> Features:
        levels = super().forward(x)
        return {name: levels[name] for name in self.features}


class Branches(Stages):
    def forward(self, x: Tensor) -> Features:
        levels = super().forward(x)
        return {**levels, "c2": levels["c2"] if levels["c2"].sum() > 0 else -levels["c2"]}


DEFECTS = (
    ("declares", NoDivisor),
    ("leaves the image alone", InPlace),
    ("shapes", FixedSize),
    ("shapes", FinerInTraining),
    ("bf16", Divides),
    ("copies", Halved),
    ("gradients", Unused),
    ("trims", KeepsStages),
)


def failed(backbone: Backbone, checks: tuple[Check[BackboneSubject], ...]) -> list[str]:
    torch.manual_seed(0)
    outcomes = report(BackboneSubject(backbone), checks)
    return [outcome.name for outcome in outcomes if outcome.error]


def test_good_backbone_passes() -> None:
    check_backbone(Stages())
    check_backbone_graphs(Stages())


def test_every_check_can_fail() -> None:
    assert {name for name, _ in DEFECTS} == {check.name for check in CHECKS}


@pytest.mark.parametrize(("name", "backbone"), DEFECTS)
def test_a_defect_is_found_by_its_check_alone(name: str, backbone: type[Backbone]) -> None:
    assert failed(backbone(), CHECKS) == [name]


def test_a_branch_on_values_is_no_graph() -> None:
    assert failed(Branches(), GRAPH_CHECKS) == [check.name for check in GRAPH_CHECKS]


def test_a_failure_says_what_was_asked_and_found() -> None:
    with pytest.raises(AssertionError, match=r"(?s)1 of 7.*shapes: every level.*found: c1 in tra"):
        check_backbone(FinerInTraining())
