"""Verification and identification in two processes are exactly those of one."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import Identification, Verification
from densekit.testing import run_distributed
from tests.unit.metrics.embedding.faces import scene

pytestmark = pytest.mark.ddp


def measured(images: list[list[int]]) -> dict[str, float]:
    results, truths = scene(people=5, images=3)
    found = {}
    for metric in (Verification([0.2, 0.05]), Identification()):
        for batch in images:
            metric.update([results[i] for i in batch], [truths[i] for i in batch])
        found |= {name: float(value) for name, value in metric.compute().items()}
    return found


def unevenly(rank: int) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    mine = list(range(rank, 15, 2))  # 8 and 7 images: the last update of the second is empty
    batches = [mine[i : i + 2] for i in range(0, 8, 2)] + [mine[8:]]
    everything = [list(range(15))] if rank == 1 else []
    return measured(batches), measured(everything), measured([])


def test_two_processes_are_one() -> None:
    alone = measured([list(range(15))])
    assert np.isfinite(list(alone.values())).all()
    for split, one_sided, nothing in run_distributed(unevenly, 2):
        assert split == alone
        assert one_sided == alone
        without = {name: value for name, value in nothing.items() if name != "without_mate"}
        assert np.isnan(list(without.values())).all()
