"""Two processes measure exactly what one does, however unevenly the images lie on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekit.metrics import CocoMap, CocoMaskMap, VocMap
from densekit.ops import dist
from densekit.testing import run_distributed
from tests.unit.metrics.detection.scenes import masked, random_scene

pytestmark = pytest.mark.ddp

CLASSES = ["a", "b", "c"]
IMAGES = 13  # does not divide by two processes, nor by their batches of two


def metrics() -> list:
    return [CocoMap(CLASSES), VocMap(CLASSES, iou_thresholds=[0.5, 0.75]), CocoMaskMap(CLASSES)]


def scene():
    return masked(random_scene(np.random.default_rng(3), IMAGES, 3, crowd=0.1, ties=True))


def measured(batches: list[list[int]]) -> dict[str, float]:
    """All figures after updates with the images of each batch."""
    results, truths = scene()
    figures = {}
    for metric in metrics():
        for batch in batches:
            metric.update([results[i] for i in batch], [truths[i] for i in batch])
        figures |= {name: float(value) for name, value in metric.compute().items()}
    return figures


def one_process() -> dict[str, float]:
    return measured([list(range(i, min(i + 2, IMAGES))) for i in range(0, IMAGES, 2)])


def last_update_empty(rank: int) -> dict[str, float]:
    mine = list(range(rank, IMAGES, 2))  # 7 and 6 images: four updates each, the last is short
    batches = [mine[i : i + 2] for i in range(0, 8, 2)]
    assert batches[-1] == ([12] if rank == 0 else [])
    return measured(batches)


def one_rank_never_updated(rank: int) -> dict[str, float]:
    return measured([list(range(IMAGES))] if rank == 0 else [])


def only_the_second_rank_updated(rank: int) -> dict[str, float]:
    return measured([list(range(IMAGES))] if rank == 1 else [])


def nobody_updated(rank: int) -> dict[str, float]:
    return measured([])


SPLITS = (last_update_empty, one_rank_never_updated, only_the_second_rank_updated, nobody_updated)


def everything(rank: int) -> dict:
    found = {split.__name__: split(rank) for split in SPLITS}
    return found | {
        "count": dist.global_count(torch.tensor(3 * rank + 1)),
        "nothing": dist.global_count(torch.tensor(0)),
        "counts": dist.global_count(torch.tensor([rank, 2], dtype=torch.float64)),
        "place": torch.tensor([dist.rank(), dist.world_size()]),
    }


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    """What each of two processes found; they start once for all tests, which takes seconds."""
    return run_distributed(everything, 2)


@pytest.mark.parametrize("split", SPLITS[:3], ids=lambda split: split.__name__)
def test_two_processes_equal_one_exactly(ranks, split):
    alone = one_process()
    assert np.isfinite(list(alone.values())).sum() > 20
    for found in ranks:
        np.testing.assert_equal(found[split.__name__], alone)


def test_two_processes_without_any_update_give_nan(ranks):
    for found in ranks:
        assert np.isnan(list(found["nobody_updated"].values())).all()


def test_counts_of_two_processes(ranks):
    for rank, found in enumerate(ranks):
        assert float(found["count"]) == 2.5  # (1 + 4) / 2
        assert 0 < float(found["nothing"]) <= dist.SMALLEST_COUNT
        assert found["counts"].tolist() == [0.5, 2.0]
        assert found["place"].tolist() == [rank, 2]
