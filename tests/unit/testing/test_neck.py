"""Every check of a neck lets a good one pass and catches the defect it is there for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densekit.necks import FPN
from densekit.necks.base import Neck
from densekit.testing import check_neck, report
from densekit.testing.neck import CHECKS, NeckMaker, NeckSubject
from densekit.types import Features, FeatureSpec, Specs

FEATURES = {
    "c0": FeatureSpec(3, (1, 1)),
    "c1": FeatureSpec(4, (2, 2)),
    "c2": FeatureSpec(6, (4, 4)),
    "c3": FeatureSpec(8, (8, 8)),
}


class Projections(Neck):
    """p2 and p3, a projection each."""

    size_divisor = 8

    def __init__(self, features: Specs, reads: Iterable[str] = ()) -> None:
        specs = {f"p{n}": FeatureSpec(5, features[f"c{n}"].stride) for n in (2, 3)}
        super().__init__(features, reads, specs)
        self.reads = tuple(f"c{level[1]}" for level in self.levels)
        self.layers = nn.ModuleDict(
            {level: nn.Conv2d(features[f"c{level[1]}"].channels, 5, 1) for level in self.levels}
        )

    def forward(self, features: Features) -> Features:
        added = {level: layer(features[f"c{level[1]}"]) for level, layer in self.layers.items()}
        return {**features, **added}


class NoDivisor(Projections):
    size_divisor = 0


class KeepsAll(Projections):
    def forward(self, features: Features) -> Features:
        found = super().forward(features)
        return {**found, "p9": found[self.levels[0]] * 1}


class DropsInputs(Projections):
    def forward(self, features: Features) -> Features:
        found = super().forward(features)
        return {level: found[level] for level in self.levels}


class InPlace(Projections):
    def forward(self, features: Features) -> Features:
        with torch.no_grad():
            features[self.reads[0]].clamp_(min=0)
        return super().forward(features)


class FixedSize(Projections):
    def forward(self, features: Features) -> Features:
        found = super().forward(features)
        level = self.levels[-1]
        size = 4 if level == "p2" else 2
        return {**found, level: F.interpolate(found[level], size=(size, size))}


class ReadsTooMuch(Projections):
    def __init__(self, features: Specs, reads: Iterable[str] = ()) -> None:
        super().__init__(features, reads)
        self.reads = (*self.reads, "c1")


class ReadsTooLittle(Projections):
    def __init__(self, features: Specs, reads: Iterable[str] = ()) -> None:
        super().__init__(features, reads)
        self.reads = self.reads[:1]


class Unused(Projections):
    def __init__(self, features: Specs, reads: Iterable[str] = ()) -> None:
        super().__init__(features, reads)
        if self.levels:
            self.layers["p7"] = nn.Identity()
            self.never = nn.Linear(2, 2)

    def forward(self, features: Features) -> Features:
        added = {level: self.layers[level](features[f"c{level[1]}"]) for level in self.levels}
        return {**features, **added}


class Divides(Projections):
    def forward(self, features: Features) -> Features:
        found = super().forward(features)
        level = self.levels[0]
        almost_one = found[level] * 0 + (1 - 1e-4)  # 1 in bfloat16
        return {**found, level: found[level] / (1 - almost_one)}


class Halved(Projections):
    scale = 2.0

    def forward(self, features: Features) -> Features:
        found = super().forward(features)
        return {**found, **{level: found[level] * self.scale for level in self.levels}}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "scale": self.scale / 2}


class Branches(Projections):
    def forward(self, features: Features) -> Features:
        found = super().forward(features)
        level = self.levels[0]
        return {**found, level: found[level] if found[level].sum() > 0 else -found[level]}


DEFECTS = (
    ("declares", NoDivisor),
    ("adds and removes nothing", KeepsAll),
    ("adds and removes nothing", InPlace),
    ("shapes", FixedSize),
    ("reads", ReadsTooMuch),
    ("reads", ReadsTooLittle),
    ("gradients", Unused),
    ("bf16", Divides),
    ("copies", Halved),
    ("one graph", Branches),
)


def failed(make: NeckMaker) -> list[str]:
    outcomes = report(NeckSubject(make, FEATURES), CHECKS)
    return [outcome.name for outcome in outcomes if outcome.error]


@pytest.mark.parametrize("make", [Projections, partial(FPN, out_channels=16)])
def test_good_neck_passes(make: NeckMaker) -> None:
    check_neck(make)


def test_dropped_levels_are_named() -> None:
    [outcome] = [o for o in report(NeckSubject(DropsInputs, FEATURES), CHECKS) if o.error]
    expected = "forward: expected levels ['c0', 'c1', 'c2', 'c3', 'p2'], got ['p2']"
    assert outcome.error == expected


def test_every_check_can_fail() -> None:
    assert {name for name, _ in DEFECTS} == {check.name for check in CHECKS}


@pytest.mark.parametrize(("name", "neck"), DEFECTS)
def test_a_defect_is_found_by_its_check_alone(name: str, neck: type[Neck]) -> None:
    assert failed(neck) == [name]
