"""Panoptic quality: torchmetrics' numbers, those computed by hand, one process and two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality as Reference

from densekit.metrics import PanopticQuality
from densekit.ops import dist
from densekit.ops.run_lengths import encode
from densekit.testing import run_distributed
from densekit.types import Result, Truth
from tests.unit.panoptic_scenes import NAMES, SIDES, STUFF, THINGS, prediction, truth

VOID = 99


def metric() -> PanopticQuality:
    return PanopticQuality(NAMES, THINGS, STUFF)


def coloured(numbers: Any, labels: Any) -> torch.Tensor:
    """(1, H, W, 2) class and segment of each pixel, as torchmetrics takes them."""
    classes = np.concatenate([[VOID], labels])[numbers]
    return torch.from_numpy(np.stack([classes, numbers], -1)[None])


def without_holes(found: Result) -> Result:
    """A thing also where there was no segment.

    torchmetrics does not count an object as missed that lies mostly in a hole; COCO does.
    """
    panoptic = np.where(found["panoptic"] == 0, 1, found["panoptic"])
    return {"panoptic": panoptic, "segments": [{"id": 1, "label": 0}, *found["segments"]]}


def test_random_images_are_measured_as_by_torchmetrics() -> None:
    ours = metric()
    things, stuff = set(range(THINGS)), set(range(THINGS, len(NAMES)))
    settings: Any = {"allow_unknown_preds_category": True, "return_sq_and_rq": True}
    theirs = Reference(things, stuff, return_per_class=True, **settings)
    for seed in range(40):
        true = truth(seed)
        found = without_holes(prediction(true, seed))
        ours.update([found], [true])
        expected, predicted = ours._true(true), ours._predicted(found, true)
        theirs.update(coloured(*predicted[:2]), coloured(*expected[:2]))
    values = ours.compute()
    per_class = theirs.compute().double()  # (K, 3)
    assert float(values["PQ"]) > 0.2
    for row, name in enumerate(NAMES):
        assert float(values[f"PQ/{name}"]) == pytest.approx(float(per_class[row, 0]), abs=1e-6)
    for column, name in enumerate(("PQ", "SQ", "RQ")):
        of_parts = (slice(None), slice(THINGS), slice(THINGS, None))
        for end, classes in zip(("", "_things", "_stuff"), of_parts, strict=True):
            mean = float(per_class[classes, column].mean())
            assert float(values[name + end]) == pytest.approx(mean, abs=1e-6)


def planes(*columns: slice) -> Any:
    drawn = np.zeros((len(columns), 4, 10), dtype=np.uint8)
    for plane, chosen in zip(drawn, columns, strict=True):
        plane[:, chosen] = 1
    return drawn


def crowded(labels: list[int], crowd: list[bool], *columns: slice) -> Truth:
    """Objects on a plane of 4 x 10 pixels without a class."""
    return Truth(
        image_id=1,
        size=(4, 10),
        masks=encode(planes(*columns)),
        labels=np.asarray(labels),
        crowd=np.asarray(crowd),
        mask=np.zeros((4, 10), np.uint8),
    )


def predicted(labels: list[int], *columns: slice) -> Result:
    panoptic = np.zeros((4, 10), np.int32)
    for number, chosen in enumerate(columns, 1):
        panoptic[:, chosen] = number
    listed = [{"id": number, "label": label} for number, label in enumerate(labels, 1)]
    return {"panoptic": panoptic, "segments": listed}


HIDDEN = slice(0, 0)
CASES: dict[str, tuple[Truth, Result, dict[str, float]]] = {
    "beyond the object lie pixels that are not annotated": (
        crowded([0], [False], slice(0, 4)),
        predicted([0], slice(0, 6)),
        {"PQ": 1.0},
    ),
    "half of the union is no match": (
        crowded([0, 1], [False, False], slice(0, 4), slice(4, 10)),
        predicted([0], slice(0, 8)),
        {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0},
    ),
    "a segment in a crowd of its class is not false": (
        crowded([0, 0], [True, False], slice(0, 4), slice(6, 10)),
        predicted([0, 0], slice(0, 3), slice(6, 10)),
        {"PQ": 1.0},
    ),
    "one in a crowd of another class is": (
        crowded([1, 0], [True, False], slice(0, 4), slice(6, 10)),
        predicted([0, 0], slice(0, 3), slice(6, 10)),
        {"PQ": 1 / 1.5, "SQ": 1.0, "RQ": 1 / 1.5},
    ),
    "of two crowds of a class COCO's evaluation sees the last": (
        crowded([0, 0, 0], [True, True, False], slice(0, 4), slice(4, 5), slice(6, 10)),
        predicted([0, 0], slice(0, 4), slice(6, 10)),
        {"PQ": 1 / 1.5},
    ),
    "a missed object and a match of three quarters": (
        crowded([0, 0], [False, False], slice(0, 4), slice(6, 10)),
        predicted([0], slice(0, 3)),
        {"PQ": 0.5, "SQ": 0.75, "RQ": 1 / 1.5},
    ),
    "an object without a pixel is none": (
        crowded([0, 1], [False, False], slice(0, 4), HIDDEN),
        predicted([0], slice(0, 4)),
        {"PQ": 1.0},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name: str) -> None:
    true, found, expected = CASES[name]
    measured = metric()
    measured.update([found], [true])
    values = {key: float(value) for key, value in measured.compute().items()}
    assert {key: values[key] for key in expected} == pytest.approx(expected)
    assert np.isnan(values["PQ_stuff"])


def test_wrong_input_is_refused() -> None:
    true = truth(0)
    with pytest.raises(ValueError, match=r"stuff: expected 3 values, .* got \[1, 2\]"):
        PanopticQuality(NAMES, THINGS, [1, 2])
    for found, message in (
        (
            {"panoptic": np.zeros((2, 2), np.int32), "segments": []},
            r"panoptic: expected \(24, 32\)",
        ),
        (
            {"panoptic": np.ones(SIDES, np.int32), "segments": []},
            r"segments: expected each id .* \[1\]",
        ),
        (
            {"panoptic": np.zeros(SIDES, np.int32), "segments": [{"id": 1, "label": 0}]},
            "segments: expected each id",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            metric().update([found], [true])
    del true["masks"]
    with pytest.raises(ValueError, match="masks: expected the outlines of objects and a mask"):
        metric().update([prediction(truth(0), 0)], [true])


def test_rows_resample_and_list_images() -> None:
    measured = metric()
    true = [truth(seed, crowds=True) for seed in range(5)]
    measured.update([prediction(one, one["image_id"]) for one in true], true)
    values = measured.compute()
    again = metric().recompute(measured.computed_rows())
    assert again["PQ"] == float(values["PQ"])
    once = measured.resampled(np.ones((1, 5), dtype=np.int64))
    assert once["PQ"][0] == float(values["PQ"])
    assert [row["image_id"] for row in measured.cases()] == [0, 1, 2, 3, 4]
    assert [analysis.title for analysis in measured.analyses()] == ["Classes", "PQ of all classes"]


def measure_part(_: Any = None) -> dict[str, float]:
    """Every other image, none on the second process beyond the first two."""
    measured = metric()
    for seed in range(dist.rank(), 6, dist.world_size()):
        measured.update([prediction(truth(seed), seed)], [truth(seed)])
    measured.update([], [])
    return {name: float(value) for name, value in measured.compute().items()}


@pytest.mark.ddp
def test_two_processes_measure_as_one() -> None:
    alone = measure_part()
    for found in run_distributed(measure_part, 2):
        assert found == pytest.approx(alone, nan_ok=True, abs=0)
