"""What every metric over masks refuses, keeps and gathers."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest
import torch

from densekit.metrics import BoundaryF, BoundaryIoU, DiceScore, MeanIoU, SurfaceDistances
from densekit.training.metric_set import build_metric
from tests.unit.metrics.segmentation.mask_scenes import figures_of, mask_scene, one

KINDS = [MeanIoU, DiceScore, SurfaceDistances, BoundaryIoU, BoundaryF]
MAIN = ["mIoU", "dice", "HD95", "boundary_IoU", "boundary_F"]
NAMES = ["background", "left", "right"]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@each_kind
@pytest.mark.parametrize("dims", [2, 3])
def test_a_perfect_prediction_is_perfect(kind, dims):
    _, truths = mask_scene(0, 2, 3, dims, ignored=0.1)
    results = [{"mask": np.where(t["mask"] == 255, 1, t["mask"])} for t in truths]
    for name, value in figures_of(kind(NAMES, background=True), results, truths).items():
        zero = ("HD95", "ASSD", "missed", "invented", "surface_empty", "dice_empty")
        is_zero = name.startswith(zero) or name.endswith("_left_out")
        assert value == (0 if is_zero else 1), name


@each_kind
def test_images_are_measured_in_the_order_of_their_ids(kind):
    results, truths = mask_scene(1, 5, 3, ignored=0.05)
    forward, backward = kind(NAMES), kind(NAMES)
    alone = figures_of(forward, results, truths)
    for n in (3, 0, 4, 1, 2):
        backward.update(results[n : n + 1], truths[n : n + 1])
    backward.update([], [])
    assert {name: float(v) for name, v in backward.compute().items()} == alone
    assert [row["image_id"] for row in backward.cases()] == [972, 979, 986, 993, 1000]
    np.testing.assert_equal(backward.cases(), forward.cases())


@each_kind
def test_an_ignored_pixel_counts_for_nothing(kind):
    results, truths = mask_scene(2, 3, 3)
    for truth in truths:
        truth["mask"][:, :9] = 255
    before = figures_of(kind(NAMES), results, truths)
    for result in results:
        result["mask"][:, :9] = (result["mask"][:, :9] + 1) % 3
    assert figures_of(kind(NAMES), results, truths) == before


@each_kind
def test_multilabel_planes_are_as_many_binary_tasks(kind):
    rng = np.random.default_rng(3)
    truths = [
        {"image_id": n, "mask": rng.choice([0, 1, 255], (2, 20, 17)).astype(np.uint8)}
        for n in range(2)
    ]
    results = [{"mask": rng.integers(0, 2, t["mask"].shape).astype(np.uint8)} for t in truths]
    together = figures_of(kind(["a", "b"], multilabel=True), results, truths)
    for k, name in enumerate("ab"):
        plane = [{"mask": r["mask"][k]} for r in results]
        target = [{"image_id": t["image_id"], "mask": t["mask"][k]} for t in truths]
        alone = figures_of(kind([name]), plane, target)
        per_class = {key: value for key, value in alone.items() if key.endswith(f"/{name}")}
        assert per_class
        assert per_class.items() <= together.items()


@pytest.mark.parametrize(("kind", "main"), list(zip(KINDS, MAIN, strict=True)))
def test_nothing_to_measure_is_nan_and_logged(kind, main, caplog):
    metric = kind(NAMES)
    with caplog.at_level(logging.WARNING):
        assert np.isnan(figures_of(metric, [], [])[main])
    assert f"{main} is nan: no images" in caplog.text
    metric.reset()
    with caplog.at_level(logging.WARNING):
        found = figures_of(metric, *one([[255, 255]], [[0, 2]]))
    assert np.isnan(found[main])
    assert f"{main} is nan: 1 image, no class to measure" in caplog.text


@pytest.mark.parametrize(
    ("names", "multilabel", "truth", "predicted", "message"),
    [
        (
            "abc",
            False,
            [[0, 3]],
            [[0, 0]],
            r"image 7: annotation: mask: expected 0\.\.2, 255 void, got 3",
        ),
        (
            "abc",
            False,
            [[0, 255]],
            [[9, 4]],
            r"image 7: prediction: mask: expected 0\.\.2, got 4, 9",
        ),
        (
            "abc",
            False,
            [[0, 1]],
            [[0, 255]],
            r"image 7: prediction: mask: expected 0\.\.2, got 255",
        ),
        (
            "a",
            False,
            [[0, 2]],
            [[0, 0]],
            r"image 7: annotation: mask: expected 0\.\.1, 255 void, got 2",
        ),
        (
            "ab",
            True,
            [[0], [2]],
            [[0], [0]],
            r"image 7: annotation: mask: expected 0\.\.1, 255 void, got 2",
        ),
        (
            "abc",
            True,
            [[0], [1]],
            [[0], [0]],
            r"image 7: expected multi-label masks \(3, \*size\), one plane per class, got \(2, 1\)",
        ),
        (
            "abc",
            False,
            [[0, 1]],
            [[0], [1]],
            r"image 7: expected a predicted mask of the annotated shape \(1, 2\)",
        ),
    ],
)
def test_wrong_masks_are_refused(names, multilabel, truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(list(names), multilabel=multilabel).update(*one(truth, predicted))


def test_wrong_kinds_of_masks_are_refused():
    results, truths = one([[0, 1]], [[0, 1]])
    for wrong, message in (
        (
            np.array([[0.2, 0.7]]),
            r"image 7: prediction: expected a mask of integers \(classes\), got float64",
        ),
        (np.array([[0, -1]]), r"image 7: prediction: mask: expected 0\.\.1, got -1"),
        (np.array([[0, 256]]), r"image 7: prediction: mask: expected 0\.\.1, got 256"),
    ):
        with pytest.raises(ValueError, match=message):
            MeanIoU(["a", "b"]).update([{"mask": wrong}], truths)
    with pytest.raises(ValueError, match="image 7: annotation: expected a mask, got image_id"):
        MeanIoU(["a", "b"]).update(results, [{"image_id": 7}])
    with pytest.raises(ValueError, match=r"results: expected one per annotated image \(0\), got 1"):
        MeanIoU(["a", "b"]).update(results, [])


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, 1.0, 1.0)])
def test_wrong_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match=r"image 7: spacing: expected 2 positive numbers"):
        SurfaceDistances(["a"]).update(*one([[0, 1]], [[0, 1]], spacing=spacing))


def test_wrong_arguments_are_refused():
    for build, message in (
        (partial(MeanIoU, []), "names: expected 1 to 255 classes, got 0"),
        (partial(MeanIoU, ["a", "a"]), "names: expected names that differ, got more than once: a"),
        (
            partial(SurfaceDistances, ["a"], tolerance=-1.0),
            r"tolerance: expected at least 0 mm, got -1\.0 for 'a'",
        ),
        (
            partial(SurfaceDistances, ["a", "b"], tolerance={"a": 1}),
            "expected at least 0 mm, got None for 'b'",
        ),
        (partial(SurfaceDistances, ["aorta"], tolerance={"aotra": 1}), "did you mean 'aorta'"),
        (
            partial(SurfaceDistances, ["a"], percentile=0.95e3),
            r"percentile: expected .*, got 950\.0",
        ),
        (partial(BoundaryIoU, ["a"], dilation_ratio=2.0), "dilation_ratio: expected"),
        (partial(BoundaryF, ["a"], tolerance=3.0), "tolerance: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_a_repeated_image_is_refused():
    metric = MeanIoU(["a", "b"])
    for _ in range(2):
        metric.update(*one([[0, 1]], [[0, 1]]))
    with pytest.raises(
        ValueError,
        match=r"MeanIoU: expected every image once, got image 7 again",
    ):
        metric.compute()


def test_cases_are_of_the_last_compute():
    metric = MeanIoU(["a", "b"])
    metric.update(*one([[0, 1]], [[0, 1]]))
    with pytest.raises(RuntimeError, match="call compute first"):
        metric.cases()
    metric.compute()
    assert metric.cases() == [
        {"image_id": 7, "mIoU": 1.0, "accuracy": 1.0, "IoU/a": 1.0, "IoU/b": 1.0}
    ]
    metric.update(*one([[0, 1]], [[1, 1]], image_id=8))
    with pytest.raises(RuntimeError, match="call compute first"):
        metric.cases()
    metric.reset()
    metric.compute()
    assert metric.cases() == []


@each_kind
def test_recipes_are_given_what_the_data_say_and_ids_stay_exact(kind):
    info = {"names": NAMES, "ids": [0, 1, 2], "num_classes": 3, "background": True}
    metric = build_metric(partial(kind), {**info, "multilabel": False})
    assert metric.background
    results, truths = one([[0, 1, 2]], [[0, 1, 1]], image_id=2**53 - 1)
    figures_of(metric.clone(), results, truths)
    metric.update([{"mask": torch.from_numpy(results[0]["mask"])}], truths)  # tensors do as well
    assert all(value.dtype == torch.float64 for value in metric.compute().values())
    assert metric.cases()[0]["image_id"] == 2**53 - 1


def test_the_class_of_a_binary_mask_is_never_background():
    found = figures_of(DiceScore(["polyp"], background=True), *one([[0, 1]], [[0, 1]]))
    assert found["dice/polyp"] == 1
