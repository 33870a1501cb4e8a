"""A neck of one's own is a subclass of `Neck`, as the one that the documentation shows."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from densekit import DenseModel
from densekit.heads import FasterRCNN
from densekit.trust import check_stored
from docs.examples.my_neck import Lateral
from tests.unit.tiny import SMALL_HEAD, TinyBackbone, targets


def detector(neck: Any) -> DenseModel:
    torch.manual_seed(0)
    head = partial(FasterRCNN, **SMALL_HEAD, levels=["p3", "p4"], pooled=["p3"])
    return DenseModel(TinyBackbone(), {"detection": head}, neck)


def test_the_neck_of_the_documentation_trains_a_detector() -> None:
    model = detector(partial(Lateral, out_channels=8))
    assert model.neck is not None
    assert list(model.neck.specs) == ["p2", "p3", "p4", "p5"]
    assert model.neck.levels == ("p3", "p4")
    assert len(model.backbone.stages) == 4  # nobody reads c5
    batch = targets([2, 1])
    found = model.features(batch)
    for level in ("c3", "c4", "p3", "p4"):
        spec, padded = model.neck.features[level], model.normalise(batch["image"], batch["size"])
        sides = [side // step for side, step in zip(padded.shape[2:], spec.stride, strict=True)]
        assert list(found[level].shape) == [2, spec.channels, *sides]
    sum(model.loss(batch, found).values()).backward()
    assert all(p.grad is not None for p in model.neck.parameters())


def test_specs_cost_no_layers_and_no_random_numbers() -> None:
    neck = Lateral(TinyBackbone().features)
    assert list(neck.specs) == ["p2", "p3", "p4", "p5"]
    assert not list(neck.parameters())


def test_any_callable_makes_a_neck() -> None:
    by_partial = detector(partial(Lateral, out_channels=8)).state_dict()
    by_function = detector(lambda *levels: Lateral(*levels, out_channels=8)).state_dict()
    assert by_partial.keys() == by_function.keys()
    assert all(torch.equal(value, by_function[name]) for name, value in by_partial.items())


def test_a_level_that_nobody_makes_is_named() -> None:
    with pytest.raises(ValueError, match="level read: .* got 'p9'"):
        Lateral(TinyBackbone().features, ["p9"])


def test_a_stored_configuration_builds_necks_and_nothing_else() -> None:
    cfg: dict[str, Any] = {"neck": {"_target_": "densekit.necks.FPN", "out_channels": 8}}
    check_stored(cfg)
    cfg["neck"]["_target_"] = "densekit.necks.fpn.Subsample"
    with pytest.raises(ValueError, match="expected a class that derives from densekit.necks.Neck"):
        check_stored(cfg)
