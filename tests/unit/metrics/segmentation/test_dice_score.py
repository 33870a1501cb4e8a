from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import DiceScore
from tests.unit.metrics.segmentation.mask_scenes import figures_of, one

NAMES = ["background", "liver", "tumour"]


def three_cases() -> DiceScore:
    metric = DiceScore(NAMES, background=True)
    # liver 2*2/5, no tumour anywhere
    metric.update(*one([[0, 1, 1, 0]], [[1, 1, 1, 0]], image_id=1))
    # liver 1, tumour missed
    metric.update(*one([[0, 1, 2, 2]], [[0, 1, 0, 0]], image_id=2))
    # liver 2*1/3, tumour invented
    metric.update(*one([[0, 0, 0, 1]], [[0, 0, 1, 1]], image_id=3))
    metric.update(*one([[0, 0, 0, 0]], [[0, 2, 0, 0]], image_id=4))
    return metric


def test_by_hand():
    found = {name: float(value) for name, value in three_cases().compute().items()}
    liver, tumour = (4 / 5 + 1 + 2 / 3) / 3, 0.0
    assert found == pytest.approx(
        {
            "dice": (liver + tumour) / 2,
            "dice_pooled": (2 * 4 / (4 + 6)) / 2,
            "dice/liver": liver,
            "dice/tumour": tumour,
            "dice_pooled/liver": 2 * 4 / (4 + 6),
            "dice_pooled/tumour": 0.0,
            "dice_empty/liver": 1,
            "dice_empty/tumour": 2,
        },
        abs=1e-15,
    )


def test_table_of_cases():
    metric = three_cases()
    metric.compute()
    np.testing.assert_equal(
        metric.cases(),
        [
            {"image_id": 1, "dice": 4 / 5, "dice/liver": 4 / 5, "dice/tumour": np.nan},
            {"image_id": 2, "dice": 1 / 2, "dice/liver": 1.0, "dice/tumour": 0.0},
            {"image_id": 3, "dice": 2 / 3, "dice/liver": 2 / 3, "dice/tumour": np.nan},
            {"image_id": 4, "dice": 0.0, "dice/liver": np.nan, "dice/tumour": 0.0},
        ],
    )


def test_a_class_in_no_case_is_nan_and_its_cases_are_counted():
    found = figures_of(DiceScore(NAMES, background=True), *one([[0, 1, 1]], [[0, 1, 1]]))
    assert (found["dice"], found["dice/liver"], found["dice_empty/liver"]) == (1, 1, 0)
    assert np.isnan(found["dice/tumour"])
    assert np.isnan(found["dice_pooled/tumour"])
    assert found["dice_empty/tumour"] == 1


def test_without_a_background_every_class_is_a_structure():
    found = figures_of(DiceScore(["a", "b"]), *one([[0, 1, 1, 1]], [[0, 1, 1, 0]]))
    assert found["dice"] == (2 / 3 + 4 / 5) / 2


def test_binary_and_void():
    found = figures_of(DiceScore(["cell"]), *one([[0, 1, 1, 255]], [[0, 1, 0, 1]]))
    assert found["dice"] == found["dice/cell"] == 2 / 3
