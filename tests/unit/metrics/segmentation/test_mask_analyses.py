"""What metrics of masks explain: by class, by size, by case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from densekit.metrics import DiceScore, MeanIoU, SurfaceDistances
from densekit.metrics.analyses import Bars, Matrix, Table

NAMES = ["background", "cell", "debris"]


def scene() -> tuple[list[Any], list[Any]]:
    """Three images: one right, one with half of a small cell, one with a cell taken for debris."""
    truths, results = [], []
    for image, (side, kept, value) in enumerate([(4, 4, 1), (2, 1, 1), (3, 3, 2)]):
        mask, found = np.zeros((2, 8, 9), np.uint8)
        mask[1 : 1 + side, 1 : 1 + side] = 1
        found[1 : 1 + kept, 1 : 1 + side] = value
        mask[7, :] = 255
        truths.append({"image_id": image, "mask": mask})
        results.append({"mask": found})
    return results, truths


def analysed(metric: Any) -> list[Any]:
    metric.update(*scene())
    metric.compute()
    return list(metric.analyses())


def test_confusion_of_pixels() -> None:
    matrix, classes, bars = analysed(MeanIoU(NAMES, background=True))
    assert isinstance(matrix, Matrix)
    counted = 3 * 7 * 9
    assert matrix.counts.tolist() == [[counted - 29, 0, 0], [2, 18, 9], [0, 0, 0]]
    assert isinstance(classes, Table)
    name, images, _, iou, per_image, precision, recall = classes.rows[1]
    assert (name, images, precision) == ("cell", 3, 1.0)
    assert (iou, per_image, recall) == pytest.approx((18 / 29, 0.5, 18 / 29))
    assert classes.rows[2][3:] == (0.0, 0.0, 0.0, None)
    assert isinstance(bars, Bars)
    assert sum(bars.values.values()) == 3


def test_several_processes_count_once() -> None:
    results, truths = scene()
    metric = MeanIoU(NAMES, background=True)
    for result, truth in zip(results, truths, strict=True):
        metric.update([result], [truth])
    metric.compute()
    again = MeanIoU(NAMES, background=True)
    again.recompute(metric.computed_rows())
    assert again.analyses()[0].counts.sum() == 3 * 63  # type: ignore[union-attr]


def test_binary_masks_have_no_confusion() -> None:
    metric = MeanIoU(["cell"])
    metric.update(
        [{"mask": np.ones((2, 2), np.uint8)}], [{"image_id": 1, "mask": np.eye(2, dtype=int)}]
    )
    metric.compute()
    assert [type(one) for one in metric.analyses()] == [Table, Bars]


def test_dice_by_size() -> None:
    structures, by_size, *bars = analysed(DiceScore(NAMES, background=True))
    assert structures.rows[0][:2] == ("cell", 3)
    assert structures.rows[0][2:6] == pytest.approx((5 / 9, 2 / 3, 0, 36 / 47))
    assert structures.rows[0][-2:] == (1, 0)
    assert structures.rows[1][-2:] == (0, 1)
    assert list(by_size.rows) == [
        ("cell", "4 to 4", 1, pytest.approx(2 / 3)),
        ("cell", "9 to 9", 1, 0.0),
        ("cell", "16 to 16", 1, 1.0),
    ]
    assert len(bars) == 2


def test_surfaces_by_structure() -> None:
    (table,) = analysed(SurfaceDistances(NAMES, background=True))
    cell = dict(zip(table.columns, table.rows[0], strict=True))
    assert (cell["cases"], cell["missed"], cell["invented"]) == (3, 1, 0)
    assert cell["HD95, median"] == 1
    assert cell["HD95, worst"] == pytest.approx(np.hypot(8, 9))
    assert cell["NSD, worst"] == 0


def test_without_images() -> None:
    for metric in (DiceScore(NAMES), MeanIoU(NAMES), SurfaceDistances(NAMES)):
        metric.compute()
        assert metric.analyses()
