"""Pasted masks: torchvision's pixels, pycocotools' text."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from densekit.inference import pasting
from densekit.inference.pasting import paste_masks
from densekit.inference.restore import restore

SIDES = {"usual": (10, 90), "below a pixel": (0.2, 3), "beyond the image": (60, 900)}
SIZE = (97, 130)


def boxes_of(count: int, sides: tuple[float, float], rng: np.random.Generator) -> Any:
    """(N, 4), their centres in the image."""
    half = rng.uniform(*sides, (count, 2)) / 2
    centre = rng.random((count, 2)) * SIZE[::-1]
    return np.concatenate((centre - half, centre + half), axis=1).astype(np.float32)


def torchvisions(masks: NDArray[Any], boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    pasted = paste_masks_in_image(torch.tensor(masks)[:, None], torch.tensor(boxes), size)
    planes: NDArray[Any] = (pasted[:, 0] > 0.5).numpy()
    return planes


def assert_pasted(found: list[Any], planes: NDArray[Any]) -> None:
    expected = coco_mask.encode(np.asfortranarray(planes.transpose(1, 2, 0).astype(np.uint8)))
    assert found == expected


@pytest.mark.parametrize("bins", [2, 14, 28])
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
def test_pixels_of_torchvision_as_pycocotools_writes_them(
    sides: tuple[float, float], bins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pasting, "BLOCK", 50)  # several blocks, and detections divided by them
    rng = np.random.default_rng(bins)
    masks = rng.random((30, bins, bins), dtype=np.float32)
    masks[:3], masks[3:6] = 0, 1  # nothing, and everything: runs that go on in the next column
    boxes = boxes_of(30, sides, rng)
    planes = torchvisions(masks, boxes, SIZE)
    assert planes.any()
    assert_pasted(paste_masks(masks, boxes, SIZE), planes)


def test_boxes_outside_and_no_boxes() -> None:
    masks = np.ones((2, 4, 4), np.float32)
    boxes = np.array([[200, 5, 240, 20], [-50, -50, -9, -9]], np.float32)
    assert_pasted(paste_masks(masks, boxes, SIZE), np.zeros((2, *SIZE), bool))
    assert paste_masks(masks[:0], boxes[:0], SIZE) == []


def test_a_pixel_on_the_threshold_does_not_exceed_it() -> None:
    masks = np.full((1, 4, 4), 0.5, np.float32)
    box = np.array([[4, 4, 12, 12]], np.float32)
    assert_pasted(paste_masks(masks, box, SIZE), np.zeros((1, *SIZE), bool))


def test_the_example_of_exported_files_pastes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).resolve().parents[3] / "docs/examples/exported"
    monkeypatch.syspath_prepend(str(folder))
    picture = importlib.import_module("picture")
    rng = np.random.default_rng(3)
    masks, boxes = rng.random((9, 14, 14), dtype=np.float32), boxes_of(9, (5, 150), rng)
    planes = np.stack([picture.pasted(*row, SIZE) for row in zip(masks, boxes, strict=True)])
    assert (planes != torchvisions(masks, boxes, SIZE)).mean() < 1e-5


def test_masks_are_pasted_in_the_original_frame() -> None:
    rng = np.random.default_rng(1)
    masks = rng.random((2, 3, 7, 7), dtype=np.float32)
    boxes = np.array([[3, 5, 22, 31], [0, 0, 9, 40], [10, 10, 20, 20]], np.float32)
    valid = np.array([[True, True, False], [False, True, True]])
    predictions = {
        "boxes": torch.tensor(np.stack([boxes, boxes])),
        "scores": torch.rand(2, 3),
        "labels": torch.zeros(2, 3, dtype=torch.int64),
        "valid": torch.tensor(valid),
        "masks": torch.tensor(masks),
    }
    sizes = [(80, 90), (40, 30)]
    meta: Any = [{"original_size": size} for size in sizes]
    batch: Any = {"size": torch.tensor([(40, 30), (40, 30)]), "meta": meta}
    for row, found in enumerate(restore({"masks": predictions}, batch)):
        scaled = boxes * np.tile([sizes[row][1] / 30, sizes[row][0] / 40], 2).astype(np.float32)
        planes = torchvisions(masks[row], scaled, sizes[row])
        assert_pasted(found["masks"]["masks"], planes[valid[row]])
