"""Pooled figures against scikit-learn, which sees the pixels of all images as one list."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
)

from densekit.metrics import DiceScore, MeanIoU
from tests.unit.metrics.segmentation.mask_scenes import figures_of, mask_scene

NAMES = ["background", "a", "b", "c", "never"]


def pixels(results, truths) -> tuple[np.ndarray, np.ndarray]:
    truth = np.concatenate([t["mask"].ravel() for t in truths])
    predicted = np.concatenate([r["mask"].ravel() for r in results])
    return truth[truth != 255], predicted[truth != 255]


@pytest.mark.parametrize("dims", [2, 3])
def test_multi_class(dims):
    results, truths = mask_scene(dims, 6, 4, dims, ignored=0.1)
    found = figures_of(MeanIoU(NAMES, background=True), results, truths)
    truth, predicted = pixels(results, truths)
    iou = jaccard_score(truth, predicted, average=None)
    table = confusion_matrix(truth, predicted)
    images = [pixels([r], [t]) for r, t in zip(results, truths, strict=True)]
    expected = {
        "mIoU": jaccard_score(truth, predicted, average="macro"),
        "mIoU_foreground": iou[1:].mean(),
        "frequency_weighted_IoU": jaccard_score(truth, predicted, average="weighted"),
        "accuracy": accuracy_score(truth, predicted),
        "mean_accuracy": balanced_accuracy_score(truth, predicted),
        "mIoU_per_image": np.mean([jaccard_score(*pair, average="macro") for pair in images]),
        "mIoU_per_image_left_out": sum(len(NAMES) - len(np.union1d(*pair)) for pair in images),
        **{f"IoU/{name}": iou[k] for k, name in enumerate(NAMES[:4])},
        "IoU/never": np.nan,
    }
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    by_table = table.diagonal() / (table.sum(0) + table.sum(1) - table.diagonal())
    assert found["mIoU"] == pytest.approx(by_table.mean(), abs=1e-12)


def test_binary():
    results, truths = mask_scene(8, 5, 1, ignored=0.1)
    truth, predicted = pixels(results, truths)
    found = figures_of(MeanIoU(["cell"]), results, truths)
    assert found["mIoU"] == pytest.approx(jaccard_score(truth, predicted), abs=1e-12)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    dice = figures_of(DiceScore(["cell"]), results, truths)
    assert dice["dice_pooled"] == pytest.approx(f1_score(truth, predicted), abs=1e-12)


def test_pooled_and_single_dice_are_f1():
    results, truths = mask_scene(9, 5, 4, ignored=0.1)
    metric = DiceScore(NAMES, background=True)
    found = figures_of(metric, results, truths)
    f1 = f1_score(*pixels(results, truths), average=None)
    assert found["dice_pooled"] == pytest.approx(f1[1:].mean(), abs=1e-12)
    cases = {case["image_id"]: case for case in metric.cases()}
    for result, truth in zip(results, truths, strict=True):
        alone = f1_score(*pixels([result], [truth]), average=None, labels=range(4))
        for k in (1, 2, 3):
            case = cases[truth["image_id"]][f"dice/{NAMES[k]}"]
            assert case == pytest.approx(alone[k], abs=1e-12)


def test_multilabel():
    rng = np.random.default_rng(11)
    truth, predicted = rng.integers(0, 2, (2, 4, 3, 12, 10)).astype(np.uint8)
    results = [{"mask": mask} for mask in predicted]
    truths = [{"image_id": n, "mask": mask} for n, mask in enumerate(truth)]
    found = figures_of(MeanIoU(list("abc"), multilabel=True), results, truths)
    rows = [np.moveaxis(masks, 1, -1).reshape(-1, 3) for masks in (truth, predicted)]
    assert found["mIoU"] == pytest.approx(jaccard_score(*rows, average="macro"), abs=1e-12)
    assert found["accuracy"] == pytest.approx((truth == predicted).mean(), abs=1e-12)
