"""`check_batch` accepts what collate makes and refuses what breaks a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from densekit.data.collate import collate
from densekit.types import Batch, Sample, check_batch


def sample(height: int, width: int, count: int) -> Sample:
    return {
        "image": np.full((height, width, 3), 7, np.uint8),
        "boxes": np.tile(np.array([1, 2, width, height], np.float32), (count, 1)),
        "labels": np.zeros(count, np.int64),
        "crowd": np.zeros(count, bool),
        "instance_masks": np.ones((count, height, width), np.uint8),
        "mask": np.zeros((height, width), np.uint8),
        "category": np.array(2),
        "identity": np.array(0),
        "index": 3,
        "meta": {"path": "x.png"},
    }


def batch() -> Batch:
    return collate([sample(12, 16, 2), sample(10, 9, 0)], training=True)


def test_accepts_what_collate_makes() -> None:
    check_batch(batch())


def test_accepts_images_alone() -> None:
    check_batch({"image": torch.zeros(1, 1, 4, 5, 6), "size": torch.tensor([[4, 5, 6]])})


def test_accepts_several_labels() -> None:
    several: Batch = {**batch(), "category": torch.zeros(2, 5)}
    several["mask"] = several["mask"][:, None].expand(-1, 3, -1, -1)
    check_batch(several)


def with_value(key: str, place: Any, value: float) -> Callable[[dict[str, Any]], None]:
    def change(broken: dict[str, Any]) -> None:
        broken[key][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("size"), r"batch: expected size too, got \['boxes'"),
        (lambda b: b.pop("boxes_valid"), "batch: expected boxes_valid too"),
        (
            lambda b: b.update(image=b["image"].double()),
            r"image: expected \(2, 3, 12, 16\) uint8 or .* float32, got .* float64",
        ),
        (lambda b: b.update(labels=b["labels"].int()), "labels: expected .* int64, got .* int32"),
        (
            lambda b: b.update(boxes=b["boxes"][:, :4]),
            r"boxes: expected \(2, 8, 4\) float32, got \(2, 4, 4\)",
        ),
        (
            lambda b: b.update(boxes_valid=b["boxes_valid"][:, :0]),
            r"boxes_valid: expected \(2, 1\) bool, got \(2, 0\) bool",
        ),
        (lambda b: b.update(crowd=b["crowd"][:1]), r"crowd: expected .* got \(1, 8\)"),
        (lambda b: b.update(mask=b["mask"][..., :9]), r"mask: expected .* got \(2, 12, 9\)"),
        (lambda b: b.update(meta=[]), "meta: expected 2 rows, got 0"),
        (lambda b: b.update(extra={"grade": torch.zeros(3)}), "grade: expected 2 rows, got 3"),
        (with_value("size", (0, 0), 13), r"size: expected 1 to \(12, 16\), .* got \[13, 16\]"),
        (with_value("size", (0, 0), 0), "size: expected 1 to"),
        (with_value("image", (1, 0, 0, 9), 1), "image: expected 0 beyond the size, got 1"),
        (with_value("mask", (1, 11, 0), 0), "mask: expected 255 beyond the size, got 0"),
        (with_value("labels", (0, 1), -1), "labels: expected at least 0, got -1"),
        (with_value("identity", 1, -1), "identity: expected at least 0, got -1"),
        (
            with_value("boxes", (0, 0, 2), 16.5),
            "boxes: expected a box inside the image, got .*16.5",
        ),
        (with_value("boxes", (0, 0, 0), -1), "inside the image"),
        (with_value("boxes", (0, 0, 0), torch.nan), "inside the image"),
        (with_value("boxes", (0, 1, 3), 2), "boxes: expected x1 < x2"),
    ],
)
def test_refuses(change: Callable[[dict[str, Any]], object], message: str) -> None:
    broken: Any = batch()
    change(broken)
    with pytest.raises(ValueError, match=message):
        check_batch(broken)


def test_padding_may_hold_anything() -> None:
    padded = batch()
    padded["boxes"][0, 5] = torch.tensor([9.0, 9, 1, -4])
    padded["labels"][0, 5] = -1
    check_batch(padded)
