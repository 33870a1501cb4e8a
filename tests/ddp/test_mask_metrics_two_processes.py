"""Two processes measure masks exactly as one does, however unevenly the images lie on them."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import BoundaryF, BoundaryIoU, DiceScore, MeanIoU, SurfaceDistances
from densekit.testing import run_distributed
from tests.unit.metrics.segmentation.mask_scenes import mask_scene

pytestmark = pytest.mark.ddp

NAMES = ["background", "a", "b"]
KINDS = (MeanIoU, DiceScore, SurfaceDistances, BoundaryIoU, BoundaryF)
IMAGES = 9  # does not divide by two processes, nor by their batches of two


def measured(batches: list[list[int]]) -> tuple[dict[str, float], list[list[dict[str, float]]]]:
    """All figures and all cases after updates with the images of each batch."""
    results, truths = mask_scene(4, IMAGES, 3, ignored=0.05)
    figures, cases = {}, []
    for kind in KINDS:
        metric = kind(NAMES, background=True)
        for batch in batches:
            metric.update([results[i] for i in batch], [truths[i] for i in batch])
        figures |= {name: float(value) for name, value in metric.compute().items()}
        cases.append(metric.cases())
    return figures, cases


def last_update_empty(rank: int) -> tuple:
    mine = list(range(rank, IMAGES, 2))  # 5 and 4 images: three updates each
    batches = [mine[i : i + 2] for i in range(0, 6, 2)]
    assert len(batches[-1]) == (1 if rank == 0 else 0)
    return measured(batches)


def only_the_second_rank_updated(rank: int) -> tuple:
    return measured([list(range(IMAGES))] if rank == 1 else [])


def nobody_updated(rank: int) -> tuple:
    return measured([])


def repeated(rank: int) -> str:
    try:
        measured([[0, 1 + rank]])
    except ValueError as error:
        return str(error)
    return ""


SPLITS = (last_update_empty, only_the_second_rank_updated, nobody_updated, repeated)


def everything(rank: int) -> dict:
    return {split.__name__: split(rank) for split in SPLITS}


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    """What each of two processes found; they start once for all tests, which takes seconds."""
    return run_distributed(everything, 2)


@pytest.mark.parametrize("split", SPLITS[:2], ids=lambda split: split.__name__)
def test_two_processes_equal_one_exactly(ranks, split):
    alone = measured([list(range(i, min(i + 2, IMAGES))) for i in range(0, IMAGES, 2)])
    assert np.isfinite(list(alone[0].values())).all()
    assert [len(cases) for cases in alone[1]] == [IMAGES] * len(KINDS)
    for found in ranks:
        np.testing.assert_equal(found[split.__name__], alone)


def test_without_any_update_every_mean_is_nan(ranks):
    for found in ranks:
        figures, cases = found["nobody_updated"]
        counts = ("missed", "invented", "surface_empty", "dice_empty")
        for name, value in figures.items():
            is_count = name.startswith(counts) or name.endswith("_left_out")
            assert value == 0 if is_count else np.isnan(value), name
        assert cases == [[]] * len(KINDS)


def test_an_image_that_both_processes_saw_is_refused(ranks):
    for found in ranks:
        assert "MeanIoU: expected every image once, got image 1000 again" in found["repeated"]
