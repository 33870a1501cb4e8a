"""What cannot train with divided weights is refused with the setting that has to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import nn

from densekit.losses import PartialFC
from densekit.training import Ema, SignalFile
from densekit.training.fsdp import check_fsdp


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(nn.Linear(1, 1).bias.sum().detach())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"precision": "16-mixed"}, "precision: expected bf16-mixed or 32-true with trainer."),
        ({"compiled": True}, "training.compile: expected false with trainer.strategy=fsdp, got"),
        (
            {"callbacks": [SignalFile(Path("x"))]},
            "callbacks: expected none that copies the .*Signal",
        ),
        ({"callbacks": [StochasticWeightAveraging(0.1)]}, "got StochasticWeightAveraging"),
        ({"callbacks": [WeightAveraging()]}, "got WeightAveraging"),
        ({"model": nn.Sequential(Scaled())}, "expected ddp with the parameter 0.scale, which has"),
    ],
)
def test_what_cannot_be_divided_is_refused(changed: dict[str, Any], message: str) -> None:
    accepted: dict[str, Any] = {
        "model": nn.Linear(2, 2),
        "callbacks": [Ema()],
        "precision": "bf16-mixed",
        "compiled": False,
    }
    check_fsdp(**accepted)
    with pytest.raises(ValueError, match=message):
        check_fsdp(**accepted | changed)


def test_a_head_that_divides_its_own_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="trainer.strategy: expected ddp with 0, which divides"):
        check_fsdp(nn.Sequential(PartialFC(4, 8)), [], "32-true", compiled=False)
